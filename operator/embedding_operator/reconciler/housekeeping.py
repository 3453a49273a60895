"""What is done for all sources together: finished jobs expire, and the memory is corrected by a list, once a minute.

Started by the process. A watch may miss what happened while it was away; the list does not.
"""

import asyncio
import time

import structlog

from embedding_operator.api_server import ApiServer, ApiServerError
from embedding_operator.reconciler.expiry import Cohorts
from embedding_operator.reconciler.open_jobs import OpenJobs
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources.embedding_job import COHORT_LABEL, FINISHED, FINISHED_SELECTOR, parsed_job
from embedding_operator.resources.embedding_source import parsed_source
from embedding_operator.settings import Settings

log = structlog.get_logger(__name__)

EXPIRE_EVERY_S = 1.0
CORRECT_EVERY_S = 60.0


class Housekeeping:
    def __init__(
        self, server: ApiServer, jobs: OpenJobs, cohorts: Cohorts, sources: Sources, settings: Settings
    ) -> None:
        self._server = server
        self._jobs = jobs
        self._cohorts = cohorts
        self._sources = sources
        self._settings = settings

    async def run(self) -> None:
        """Until cancelled."""
        corrected_at = time.monotonic()
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            try:
                await self.expire()
                if time.monotonic() - corrected_at >= CORRECT_EVERY_S:
                    corrected_at = time.monotonic()
                    await self.correct()
            except ApiServerError as exc:
                log.warning("housekeeping waits", message=str(exc))

    async def correct(self) -> None:
        """Agree with what the API server has: sources first, for a job without a source is to go.

        Also the first thing that a process does, before it watches. Raises ApiServerError.
        """
        shown = [parsed_source(body) for body in await self._server.sources()]
        for source in shown:
            await self._sources.seen(source)
        listed_at = time.monotonic()
        jobs = [parsed_job(body) for body in await self._server.jobs()]
        self._jobs.corrected(jobs, listed_at=listed_at)
        self._cohorts.corrected((job.cohort for job in jobs if job.status.phase in FINISHED), listed_at)
        names = {source.name for source in shown}
        for name in (self._sources.names() | {job.source for job in jobs}) - names:
            await self._sources.gone(name)

    async def expire(self) -> None:
        """Delete finished jobs that are old enough, or too many. Raises ApiServerError."""
        settings = self._settings
        expired = self._cohorts.expired(
            time.monotonic(), most=settings.max_finished_jobs, age_s=settings.finished_job_age_s
        )
        for label in expired:
            # Both phases that are deleted are final: what is open, dead or replayed meanwhile is never matched.
            await self._server.delete_jobs(labels=f"{COHORT_LABEL}={label}", fields=FINISHED_SELECTOR)
            self._cohorts.cleared(label)
