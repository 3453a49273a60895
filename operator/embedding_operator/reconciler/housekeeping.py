"""Work for all sources together: deletes finished jobs, restarts orphaned jobs, and compares the memory with lists of all jobs
and sources once a minute, because a watch may have missed a change. Started by the process.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.job_statuses import touch_job
from embedding_operator.reconciler.orphans import PATIENCE_S, orphaned
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.reconciler.sources import Sources
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.base import understood
from embedding_operator.resources.embedding_job import (
    COHORT_LABEL,
    FINISHED_SELECTOR,
    parse_job,
)
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

TURN_EVERY_S = 1.0
RESYNC_EVERY_S = 60.0
DELETIONS_AT_ONCE = 4
EXPIRE_FOR_S = 10.0
"""How long other work waits for expiry: jobs may finish as fast as they are deleted, for as long as a first fill lasts."""


@dataclass(frozen=True)
class Expiry:
    """How many finished jobs are kept, and for how many seconds."""

    max_finished: int
    age_s: float


class Housekeeping:
    def __init__(
        self,
        server: ApiServer,
        sources: Sources,
        *,
        catalog: SourceCatalog,
        jobs: JobRegisters,
        expiry: Expiry,
        clock: Clock,
        may_work: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_work`: whether this process leads, and so may change jobs."""
        self._may_work = may_work
        self._server = server
        self._sources = sources
        self._catalog = catalog
        self._table, self._finished = jobs.table, jobs.finished
        self._expiry = expiry
        self._clock = clock
        self._touched_at: dict[str, float] = {}
        self._resynced_at = clock.monotonic()
        self.last_turn = clock.monotonic()
        self._was_unavailable = False
        self.waiting_for: str | None = None
        """Why a request of the last turn failed, in a sentence."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._clock.sleep(TURN_EVERY_S)
            await self.turn()

    async def turn(self) -> None:
        """Do everything whose time has come. A request that fails is logged and not raised, and does not prevent other work."""
        self.last_turn = self._clock.monotonic()
        if not self._may_work():
            return
        errors: list[ApiServerError] = []
        for work in (self.expire, self.touch_orphans, self._resync_when_due):
            try:
                await work()
            except ApiServerError as exc:
                if str(exc) != self.waiting_for:  # an outage is logged once, and not in every turn
                    log.warning("housekeeping waits", message=str(exc))
                errors.append(exc)
        self.waiting_for = str(errors[0]) if errors else None
        self._was_unavailable = any(isinstance(error, ApiServerUnavailable) for error in errors)

    def resync_soon(self) -> None:
        """Have the next turn compare the memory with the API server, which was away."""
        self._was_unavailable = True

    async def _resync_when_due(self) -> None:
        """Every minute, and as soon as the API server can be reached again. Raises ApiServerError."""
        if self._was_unavailable or self._clock.monotonic() - self._resynced_at >= RESYNC_EVERY_S:
            await self.resync()

    async def resync(self) -> None:
        """Make the memory agree with the API server, and delete jobs without a source. Raises ApiServerError.

        The process also calls it at the start, before it watches anything.
        """
        # Jobs are listed first: if a listed job belongs to a source that was just created, the later list has the source.
        before = {name: self._catalog.get(name) for name in self._catalog}
        listed_at = self._clock.monotonic()
        jobs = [job for job in understood(parse_job, await self._server.jobs()) if not job.metadata.is_being_deleted]
        bodies = await self._server.sources()
        self._table.resync(jobs, listed_at=listed_at)
        for source in understood(parse_source, bodies):
            self._sources.observe_listed(source, known_before=before.get(source.name), listed_at=listed_at)
        names = {body["metadata"]["name"] for body in bodies}
        for name in (before.keys() | {job.source for job in jobs}) - names:
            self._sources.observe_deleted(name)
        self._resynced_at = listed_at

    async def expire(self) -> None:
        """Delete finished jobs that are old enough or too many, as many as is possible in ten seconds. Raises ApiServerError."""
        at_once = asyncio.Semaphore(DELETIONS_AT_ONCE)
        end = self._clock.monotonic() + EXPIRE_FOR_S

        async def delete(label: str) -> None:
            async with at_once:
                if self._clock.monotonic() < end:
                    await self._delete_cohort(label)

        while (now := self._clock.monotonic()) < end and (
            labels := self._finished.expired(now, max_kept=self._expiry.max_finished, age_s=self._expiry.age_s)
        ):
            results = await asyncio.gather(*map(delete, labels), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _delete_cohort(self, label: str) -> None:
        finished = self._finished.members(label)
        # Only jobs in a final phase match, so an open job, a dead letter or a replayed job is never deleted.
        await self._server.delete_jobs(labels=f"{COHORT_LABEL}={label}", fields=FINISHED_SELECTOR)
        for name in finished:
            self._finished.remove(name)
        self._sources.room_gained()

    async def touch_orphans(self) -> None:
        """Change an annotation of each orphaned job, so that kopf calls its handler again. Raises ApiServerUnavailable."""
        now, moment = self._clock.monotonic(), self._clock.now()
        self._touched_at = {name: at for name, at in self._touched_at.items() if now - at < PATIENCE_S}
        jobs = (job for job in self._table.jobs() if job.name not in self._touched_at)
        for name in orphaned(jobs, monotonic=now, now=moment, longest_pause_s=self._catalog.longest_pause_s):
            if (job := self._table.get(name)) is not None and job.state is not JobState.HELD:
                log.warning("orphaned job is touched", job=name)
            try:
                await touch_job(self._server, self._table, name, moment)
            except RequestRefused as exc:
                log.error("orphaned job not touched", job=name, message=str(exc))
            self._touched_at[name] = now  # not reached if the API server is unavailable, so the next turn tries again
