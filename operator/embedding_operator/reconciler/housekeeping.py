"""What is done for all sources together: finished jobs expire, once a minute the memory is corrected by a list, and jobs
that nobody works on are brought to the handler again. Started by the process.

A watch may miss what happened while it was away; the list does not.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from pydantic import ValidationError

from embedding_operator.api_server import ApiServer, ApiServerError, Gone, Json
from embedding_operator.lifecycle.job_status import timestamp
from embedding_operator.reconciler.repair import forsaken
from embedding_operator.reconciler.shared import Shared
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources.embedding_job import (
    COHORT_LABEL,
    FINISHED,
    FINISHED_SELECTOR,
    TOUCHED_ANNOTATION,
    EmbeddingJob,
    parsed_job,
)
from embedding_operator.resources.embedding_source import parsed_source

log = structlog.get_logger(__name__)

EXPIRE_EVERY_S = 1.0
CORRECT_EVERY_S = 60.0
Parsed = TypeVar("Parsed")


class Housekeeping:
    def __init__(self, server: ApiServer, shared: Shared, sources: Sources) -> None:
        self._server = server
        self._shared = shared
        self._sources = sources
        self.last_turn = time.monotonic()
        self.waiting_for: str | None = None
        """Why the API server can't be had at the moment, in a sentence."""

    async def run(self) -> None:
        """Until cancelled."""
        corrected_at = time.monotonic()
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            self.last_turn = time.monotonic()
            try:
                await self.expire()
                if self.waiting_for or time.monotonic() - corrected_at >= CORRECT_EVERY_S:
                    await self.repair(await self.correct())
                    corrected_at = time.monotonic()
            except ApiServerError as exc:
                self.waiting_for = str(exc)
                log.warning("housekeeping waits", message=str(exc))
            else:
                self.waiting_for = None

    async def correct(self) -> list[EmbeddingJob]:
        """Agree with what the API server has; a job without a source is to go. Returns all jobs.

        Also the first thing that a process does, before it watches. Raises ApiServerError.
        """
        # In this order: a source that is made meanwhile is in the list when a job of its own is.
        before = self._sources.names()
        listed_at = time.monotonic()
        jobs = list(understood(parsed_job, await self._server.jobs()))
        bodies = await self._server.sources()
        self._shared.jobs.corrected(jobs, listed_at=listed_at)
        finished = [job.cohort for job in jobs if job.status.phase in FINISHED]
        self._shared.cohorts.corrected(finished, listed_at)
        for source in understood(parsed_source, bodies):
            await self._sources.seen(source)
        names = {body["metadata"]["name"] for body in bodies}
        for name in (before | {job.source for job in jobs}) - names:
            await self._sources.gone(name)
        return jobs

    async def expire(self) -> None:
        """Delete finished jobs that are old enough, or too many. Raises ApiServerError."""
        settings, cohorts = self._shared.settings, self._shared.cohorts
        expired = cohorts.expired(time.monotonic(), most=settings.max_finished_jobs, age_s=settings.finished_job_age_s)
        for label in expired:
            # Both phases that are deleted are final: what is open, dead or replayed meanwhile is never matched.
            await self._server.delete_jobs(labels=f"{COHORT_LABEL}={label}", fields=FINISHED_SELECTOR)
            cohorts.cleared(label)

    async def repair(self, jobs: list[EmbeddingJob]) -> None:
        """Touch open jobs that nobody works on (a patch of theirs was refused, say): a change runs the handler at once."""
        now = datetime.now(UTC)
        for job in forsaken(jobs, in_hand=self._shared.jobs.names_in_hand(), now=now):
            log.warning("job that nobody works on is touched", job=job.name, phase=job.status.phase)
            try:
                await self._server.annotate_job(job.name, {TOUCHED_ANNOTATION: timestamp(now)})
            except Gone:
                continue


def understood(parse: Callable[[Json], Parsed], bodies: Iterable[Json]) -> Iterable[Parsed]:
    """What this version understands of the objects; a CRD older or newer than it must not stop the others."""
    for body in bodies:
        try:
            yield parse(body)
        except ValidationError as exc:
            log.error("object not understood", name=body["metadata"]["name"], problems=exc.error_count())
