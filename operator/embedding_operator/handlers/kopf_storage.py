"""What kopf remembers of a job: nothing of its own. A job's status is the truth, and kopf's questions are answered from it.

Without a stored diff-base, every event of an open job is a creation to kopf, so one registration serves new, restarted and
replayed jobs, and kopf writes nothing into them.
"""

from collections.abc import Iterable
from datetime import timedelta

import kopf

from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.orphans import remaining_pause_s
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.base import parsed_timestamp, timestamp
from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION
from embedding_worker.clock import Clock


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

    A time that is further away than the source's longest pause is not waited for. kopf sleeps at most 600 s and touches the
    object afterwards. The time stays in the status, so a longer pause goes on after the touch.
    """

    def __init__(self, table: JobTable, catalog: SourceCatalog, *, clock: Clock) -> None:
        self._table = table
        self._catalog = catalog
        self._clock = clock

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        status = body.get("status", {})
        not_before = parsed_timestamp(status.get("nextAttemptTime"))
        if status.get("phase") != "Retrying" or not_before is None:
            return None
        now = self._clock.now()
        source = body.get("spec", {}).get("sourceRef", {}).get("name", "")
        remaining_s = remaining_pause_s(
            not_before,
            waited_s=self._waited_s(body["metadata"]["name"]),
            longest_pause_s=self._catalog.longest_pause_s(source, status.get("reason") or ""),
            now=now,
        )
        if remaining_s <= 0:
            return None
        return kopf.ProgressRecord(
            delayed=timestamp(now + timedelta(seconds=remaining_s)), retries=0, success=False, failure=False
        )

    def _waited_s(self, name: str) -> float:
        """For how long the table has known that this job backs off; 0 where it has not been told yet."""
        job = self._table.get(name)
        if job is None or job.state is not JobState.BACKING_OFF:
            return 0.0
        return self._clock.monotonic() - job.since

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
