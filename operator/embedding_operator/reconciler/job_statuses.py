"""Sends the status of a job to the API server until there is an answer, and updates the job table if the status is refused.

Called by the job runner; the sweep uses refresh_job. The answer to each request is handled here, so no later event of a watch
is needed to learn what has happened to a job.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import structlog

from embedding_operator.api_errors import ApiServerUnavailable, Gone, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.job_status import JobPatch
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.tracked_job import JobState, TrackedJob
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION, EmbeddingJob, parse_job
from embedding_worker.clock import Clock

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)

STATUSES_AT_ONCE = 16
"""Half of the connections to the API server: a whole batch ends at one moment, and the job of an edited row is not to wait for a
connection until all of their statuses are sent."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 3.0
"""Short, because all work must continue within ten seconds after the API server can be reached again."""


async def refresh_job(server: ApiServer, table: JobTable, name: str) -> None:
    """Read this job, and record its present state in the table. Raises ApiServerUnavailable or RequestRefused."""
    _record(table, name, await _read(server, name))


async def touch_job(server: ApiServer, table: JobTable, name: str, now: datetime) -> None:
    """Change an annotation of this job, so that kopf calls its handler again. One that is gone is removed from the table.

    Raises ApiServerUnavailable or RequestRefused.
    """
    try:
        await server.annotate_job(name, {TOUCHED_ANNOTATION: timestamp(now)})
    except Gone:
        table.remove(name)


async def _read(server: ApiServer, name: str) -> EmbeddingJob | None:
    try:
        return parse_job(await server.job(name))
    except Gone:
        return None


def _record(table: JobTable, name: str, job: EmbeddingJob | None) -> None:
    if job is None or job.metadata.is_being_deleted:
        table.remove(name)
    else:
        table.accept(job)


class JobStatuses:
    def __init__(self, server: ApiServer, table: JobTable, *, clock: Clock) -> None:
        self._server = server
        self._table = table
        self._clock = clock
        self._at_once = asyncio.Semaphore(STATUSES_AT_ONCE)

    async def send(self, name: str, patch: JobPatch) -> int | None:
        """Send a patch until the API server has answered it. Returns the job's new resource version.

        After a conflict, overload, an unreachable server or a lost answer, the same patch is sent again; sending it twice has
        the same result as sending it once. Returns None if the job was deleted, or if the patch was refused (its phase is
        final, or a policy forbids it). The job is then read, and the table records its present state: Queued or BackingOff if
        it is still open; then it is Held. If the job may not even be read, all requests are refused at the moment, so the same
        patch is sent again.
        """
        while True:
            try:
                return await self._send(name, patch)
            except Gone:
                log.info("job was deleted before its status was written", job=name)
                self._table.remove(name)
                return None
            except RequestRefused as exc:
                job, waited = await self._read_when_allowed(name)
                if not waited:
                    _record(self._table, name, job)
                    self._hold(name, str(exc))
                    return None

    async def _send(self, name: str, patch: JobPatch) -> int:
        if patch.annotations:
            await self._until_answered(lambda: self._server.annotate_job(name, patch.annotations))
        version = await self._until_answered(lambda: self._patch_status(name, patch))
        self._record_accepted(name)
        return version

    async def _patch_status(self, name: str, patch: JobPatch) -> int:
        async with self._at_once:
            return await self._server.patch_job_status(name, patch.status)

    def is_held(self, job: TrackedJob) -> bool:
        """Whether the job waits, because its status, or those of other jobs of its source, are refused."""
        now = self._clock.monotonic()
        if job.is_held(now):
            return True
        until = self._table.refused.wait_until(job.source, now)
        if until is not None:
            self._table.hold(job.name, until=until)
        return until is not None

    def _record_accepted(self, name: str) -> None:
        job = self._table.get(name)
        if job is not None and self._table.refused.record_accepted(job.source):
            self._table.release_held(job.source)

    def _hold(self, name: str, message: str) -> None:
        """If it is still open, a rule forbids its status: it waits, and its source's other jobs too if several are refused."""
        self._table.hold(name)
        job = self._table.get(name)
        if job is None or job.state is not JobState.HELD:
            return
        if self._table.refused.record(job.source, name, message, self._clock.monotonic()):
            log.error(
                "status of a job refused: see the message for the rule that forbids it", job=name, message=message
            )

    async def _read_when_allowed(self, name: str) -> tuple[EmbeddingJob | None, bool]:
        """The job as it is stored now (None: it was deleted), and whether it could not be read before."""
        waited = False
        while True:
            try:
                return await self._until_answered(lambda: _read(self._server, name)), waited
            except RequestRefused as exc:
                if not waited:
                    log.error("job cannot be read after its status was refused", job=name, message=str(exc))
                waited = True
                await self._clock.sleep(LONGEST_PAUSE_S)

    async def _until_answered(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await request()
            except ApiServerUnavailable as exc:
                log.info("waiting for the API server", message=str(exc), pause_s=pause_s)
                await self._clock.sleep(min(max(pause_s, exc.retry_after_s), LONGEST_PAUSE_S))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
