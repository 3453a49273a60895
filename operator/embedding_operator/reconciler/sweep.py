"""Sweeps a source: deletes the marks of due rows that are up to date, and creates jobs for the others, within the window.

Called by the source's loop. `sort_due` decides what each due row needs, and the Sweeper does it. Jobs are created concurrently.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from embedding_operator.api_errors import Gone, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.job_status import superseded
from embedding_operator.reconciler.dead_letters import DeadLetterReview, dead_letter_limit
from embedding_operator.reconciler.job_creator import JobCreator
from embedding_operator.reconciler.job_statuses import refresh_job
from embedding_operator.reconciler.job_table import IN_FLIGHT, JobState, TrackedJob
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.resources.embedding_job import TEXT_FAILS
from embedding_worker.clock import Clock
from embedding_worker.rows.store import DueRow, RowStore, VectorWrite
from embedding_worker.writer import Writer

log = structlog.get_logger(__name__)


@dataclass
class DuePlan:
    """What the due rows of a sweep need: their marks deleted, a null vector, or a job."""

    clear: list[str] = field(default_factory=list)
    blank: list[VectorWrite] = field(default_factory=list)
    jobs: list[DueRow] = field(default_factory=list)


def sort_due(due: Iterable[DueRow]) -> DuePlan:
    """A row that is up to date or deleted needs its marks cleared, one without text a null vector, any other a job."""
    plan = DuePlan()
    for row in due:
        if row.up_to_date or row.gone:
            plan.clear.append(row.id)
        elif row.blank and row.content_hash is not None:
            plan.blank.append(VectorWrite(row.id, row.content_hash, None))
        else:
            plan.jobs.append(row)
    return plan


class Sweeper:
    """Sweeps one source in one configuration."""

    def __init__(
        self,
        source: str,
        fingerprint: str,
        *,
        store: RowStore,
        server: ApiServer,
        jobs: JobRegisters,
        clock: Clock,
    ) -> None:
        self._source = source
        self._store = store
        self._writer = Writer(store, clock=clock)
        self._server = server
        self._table, self._window = jobs.table, jobs.window
        self._clock = clock
        self._creator = JobCreator(source, fingerprint, server=server, jobs=jobs, clock=clock)
        self._review = DeadLetterReview()

    @property
    def problem(self) -> tuple[str, str] | None:
        """Reason and message if no job is created until someone acts; None otherwise."""
        return dead_letter_limit(self._table.count({JobState.DEAD_LETTERED}))

    async def sweep(self) -> None:
        """Create jobs for due rows, as many as the window allows, and supersede jobs whose row has changed.

        Raises what the store raises, ApiServerUnavailable, and RequestRefused if the API server refuses all jobs.
        """
        await self._resolve_unconfirmed()
        await self._supersede()
        if self.problem is not None:
            return
        plan = sort_due(await self._due_rows())
        await self._store.clear(plan.clear)
        await self._write_blank(plan.blank)
        results = await asyncio.gather(*map(self._creator.create, plan.jobs), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _due_rows(self) -> list[DueRow]:
        with_jobs = {job.business_id for job in self._table.jobs(self._source)}
        leave_out = [*with_jobs, *self._creator.left_out()]
        return await self._store.sweep(leave_out=leave_out, limit=self._window.free(self._source))

    async def _write_blank(self, blank: list[VectorWrite]) -> None:
        for refused in (await self._writer.write(blank)).refused:
            self._creator.leave_out(refused)
            log.error("the database refuses a null vector for an empty text", source=self._source, business=refused)

    async def _resolve_unconfirmed(self) -> None:
        """Read the jobs whose create request got no answer. These are all Creating jobs, because no sweep is running now."""
        for tracked in self._table.jobs(self._source, {JobState.CREATING}):
            await refresh_job(self._server, self._table, tracked.name)

    async def _supersede(self) -> None:
        """Supersede open jobs and dead letters whose text has changed, except jobs in flight: their handlers notice it."""
        jobs = {job.business_id: job for job in self._table.jobs(self._source) if job.state not in IN_FLIGHT}
        known = {business: job.newest_mark for business, job in jobs.items()}
        now = self._clock.monotonic()
        if self._review.is_due(now):
            self._review.record(now)
            dead = (business for business, job in jobs.items() if job.state is JobState.DEAD_LETTERED)
            known |= dict.fromkeys(dead, 0)
        for mark in await self._store.newer_marks(known):
            job = jobs[mark.id]
            if not mark.gone and (mark.content_hash or TEXT_FAILS) == job.content_hash:
                self._table.answer_mark(job.name, mark.newest_mark)
            else:
                await self._supersede_job(job, row_gone=mark.gone)

    async def _supersede_job(self, job: TrackedJob, *, row_gone: bool) -> None:
        present = self._table.get(job.name)
        if present is None or present.state in IN_FLIGHT:
            return  # its handler has started meanwhile, and will notice the change
        try:
            patch = superseded(row_gone=row_gone, now=self._clock.now())
            version = await self._server.patch_job_status(job.name, patch)
        except Gone:
            self._table.remove(job.name)
        except RequestRefused as exc:  # it was finished meanwhile, or a policy forbids it
            log.info("job not superseded", job=job.name, message=str(exc))
            await refresh_job(self._server, self._table, job.name)
        else:
            log.info("job superseded", job=job.name, source=self._source, business=job.business_id, row_gone=row_gone)
            self._table.finish(job.name, version)
