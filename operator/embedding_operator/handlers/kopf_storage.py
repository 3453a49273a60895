"""What kopf remembers of a job: nothing of its own. A job's status is the truth, and kopf's questions are answered from it.

Without a stored diff-base, every event of an open job is a creation to kopf, so one registration serves new, restarted and
replayed jobs, and kopf writes nothing into them.
"""

from collections.abc import Iterable

import kopf

from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION


class NoDiffBase(kopf.DiffBaseStorage):
    """Stores no snapshot of the object: nothing asks what changed in it."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return


class StatusIsTheProgress(kopf.ProgressStorage):
    """Derives from an open job's status when its handler is to run: at once, or at `status.nextAttemptTime`.

    kopf sleeps at most 600 s and touches the object afterwards. The time stays in the status, so a longer pause goes on
    after the touch.
    """

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        status = body.get("status", {})
        if status.get("phase") != "Retrying" or not (not_before := status.get("nextAttemptTime")):
            return None
        return kopf.ProgressRecord(delayed=not_before, retries=0, success=False, failure=False)

    def store(self, *, key: kopf.HandlerId, record: kopf.ProgressRecord, body: kopf.Body, patch: kopf.Patch) -> None:
        return

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        return

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Change the object at the end of a sleep, so that kopf asks again. `value` is None where it needs no change."""
        if value is not None:
            patch.metadata.annotations[TOUCHED_ANNOTATION] = value

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence
