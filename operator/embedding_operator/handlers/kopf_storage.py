"""What kopf remembers of a job: nothing of its own. A job's status is the truth, and this derives from it what kopf asks.

With an empty diff-base every event of an open job is a creation to kopf, so one registration serves create, restart and
replay, and a happy job costs one patch.
"""

from collections.abc import Iterable

import kopf


class NoDiffBase(kopf.DiffBaseStorage):
    """Stores no snapshot of the object: what changed in it is never asked."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return


class StatusIsTheProgress(kopf.ProgressStorage):
    """Derives from an open job's status when its handler is to be run: at once, or at `status.nextAttemptTime`."""

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
        """kopf touches an object when its handler's time has come; a Retrying job without a time runs at once."""
        if value is not None:
            patch.status["nextAttemptTime"] = None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence
