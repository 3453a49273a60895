"""Creates the EmbeddingJob of a due row. Called by the sweep, for several rows at once.

Each row gets at most five jobs a minute, and none beyond the window. A row whose job cannot be created is left out for a minute.
"""

import structlog

from embedding_operator.api_errors import AlreadyExists, ApiServerUnavailable, Gone, Invalid
from embedding_operator.api_server import ApiServer
from embedding_operator.reconciler.job_rate import JobRate
from embedding_operator.reconciler.job_table import JobState, TrackedJob
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.resources.embedding_job import JobSpec, SourceRef, job_manifest, job_name, parse_job
from embedding_worker.clock import Clock
from embedding_worker.rows.records import DueRow

log = structlog.get_logger(__name__)

REFUSED_PAUSE_S = 60.0
"""How long a row is left out after its job or its write was refused: trying again at once would most likely fail too."""


class JobCreator:
    """Creates the jobs of one source in one configuration, and knows which of its rows are left out for a while."""

    def __init__(self, source: str, fingerprint: str, *, server: ApiServer, jobs: JobRegisters, clock: Clock) -> None:
        self._source = source
        self._fingerprint = fingerprint
        self._server = server
        self._table, self._finished, self._window = jobs.table, jobs.finished, jobs.window
        self._clock = clock
        self._rate = JobRate()
        self._left_out_until: dict[str, float] = {}

    def left_out(self) -> list[str]:
        """The business ids that get no job at the moment, because a job or a write was refused a short time ago."""
        now = self._clock.monotonic()
        self._rate.forget_old(now)
        self._left_out_until = {row: until for row, until in self._left_out_until.items() if until > now}
        return list(self._left_out_until)

    def leave_out(self, business_id: str, *, for_s: float = REFUSED_PAUSE_S) -> None:
        """Create no job for this row until the time is over."""
        self._left_out_until[business_id] = self._clock.monotonic() + for_s

    async def create(self, row: DueRow) -> None:
        """Create the row's job, unless the row has had too many within a minute.

        Raises ApiServerUnavailable, and RequestRefused if the API server refuses all jobs.
        """
        if not self._window.free(self._source):  # other sources have used the places that were free meanwhile
            return
        now = self._clock.monotonic()
        tracked = self._tracked(row, row.job_hash, now)
        if self._table.get(tracked.name) is not None:  # a person has created a job with this name for another row
            self.leave_out(row.id)
            return
        if not self._rate.allows(row.id, now):
            log.warning("business becomes due again and again", source=self._source, business=row.id)
            self.leave_out(row.id)
            return
        self._table.begin_create(tracked)
        await self._send_create(tracked)

    def _tracked(self, row: DueRow, content_hash: str, now: float) -> TrackedJob:
        name = job_name(
            source=self._source, business_id=row.id, content_hash=content_hash, fingerprint=self._fingerprint
        )
        return TrackedJob(
            name,
            self._source,
            row.id,
            content_hash,
            self._finished.next_label(now),
            JobState.CREATING,
            since=now,
            newest_mark=row.newest_mark,
            edited=row.edited,
        )

    async def _send_create(self, job: TrackedJob) -> None:
        spec = JobSpec(
            source_ref=SourceRef(name=self._source),
            business_id=job.business_id,
            content_hash=job.content_hash,
            fingerprint=self._fingerprint,
        )
        manifest = job_manifest(name=job.name, namespace=self._server.namespace, cohort=job.cohort, spec=spec)
        try:
            version = await self._server.create_job(manifest)
        except AlreadyExists:
            self._table.withdraw(job.name)
            await self._adopt_existing(job.name)
        except Invalid as exc:
            self._table.withdraw(job.name)
            self.leave_out(job.business_id)
            log.error("job refused", source=self._source, business=job.business_id, message=str(exc))
        except ApiServerUnavailable as exc:
            if not exc.may_have_happened:
                self._table.withdraw(job.name)
            raise  # if it may have been created, it stays Creating, and the next sweep reads it
        except BaseException:
            self._table.withdraw(job.name)
            raise
        else:
            self._rate.record(job.business_id, self._clock.monotonic())
            self._table.confirm_created(job.name, version)

    async def _adopt_existing(self, name: str) -> None:
        """A job of this name exists: track it if it is open or a dead letter, else delete it for the next sweep to create."""
        try:
            job = parse_job(await self._server.job(name))
            if not job.is_final:
                self._table.observe(job)
                return
            # The text was edited and then edited back, or the vector was set to null: the same text needs a second job.
            await self._server.delete_job(name, uid=job.metadata.uid)
            self._finished.remove(name)
        except Gone:
            self._finished.remove(name)
