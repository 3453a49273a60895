"""Keeps the jobs that back off until their next attempt, and touches each one then, so that kopf calls its handler again.

The handler asks `holds` for each event of an open job; the process runs the task. Housekeeping touches what is missed here: a job
whose touch was refused, or whose event was lost, is orphaned.
"""

import asyncio
from collections.abc import Callable

import structlog

from embedding_operator.api_errors import ApiServerUnavailable, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.job_statuses import touch_job
from embedding_operator.reconciler.job_table import WAITING, JobTable
from embedding_operator.reconciler.orphans import remaining_pause_s
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

TURN_EVERY_S = 0.5
AGAIN_AFTER_S = 2.0
"""While the API server is away: all work goes on within ten seconds after its return."""
TOUCHES_AT_ONCE = 8


class Pauses:
    def __init__(
        self,
        server: ApiServer,
        table: JobTable,
        catalog: SourceCatalog,
        *,
        clock: Clock,
        may_work: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_work`: whether this process leads, and so may change jobs."""
        self._server = server
        self._table = table
        self._catalog = catalog
        self._clock = clock
        self._may_work = may_work
        self._jobs: dict[str, EmbeddingJob] = {}
        """The jobs that wait, by name, as their last event has shown them."""
        self._any = asyncio.Event()

    def holds(self, job: EmbeddingJob) -> bool:
        """Whether the job has to wait for its next attempt. If so, it is touched at the end of its pause."""
        if self.remaining_s(job) > 0 and self._table.observe(job):
            self._jobs[job.name] = job
            self._any.set()
            return True
        waiting = self._jobs.get(job.name)
        if waiting is not None and waiting.metadata.version <= job.metadata.version:  # not an event that is out of date
            del self._jobs[job.name]
        return False

    def remaining_s(self, job: EmbeddingJob) -> float:
        """How long the job waits from now on, by its status; 0 or less where it may run."""
        not_before = job.status.next_attempt_time
        if job.status.phase is not Phase.RETRYING or not_before is None:
            return 0.0
        return remaining_pause_s(
            not_before,
            waited_s=self._waited_s(job.name),
            longest_pause_s=self._catalog.longest_pause_s(job.source, job.status.reason or ""),
            now=self._clock.now(),
        )

    def _waited_s(self, name: str) -> float:
        """For how long the table has known that this job backs off; 0 where it has not been told yet."""
        job = self._table.get(name)
        if job is None or job.state is not JobState.BACKING_OFF:
            return 0.0
        return self._clock.monotonic() - job.since

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._any.wait()
            await self._clock.sleep(TURN_EVERY_S)
            await self.turn()

    async def turn(self) -> None:
        """Touch the jobs whose pause is over, until the API server gives no answer. Never raises."""
        due = self.due() if self._may_work() else []
        for first in range(0, len(due), TOUCHES_AT_ONCE):
            answers = await asyncio.gather(*map(self._touch, due[first : first + TOUCHES_AT_ONCE]))
            if not all(answers):
                await self._clock.sleep(AGAIN_AFTER_S)
                break
        if not self._jobs:
            self._any.clear()

    def due(self) -> list[str]:
        """The names of the jobs whose pause is over. Forgets those that wait no longer, because they are deleted or finished."""
        states = {name: known.state for name in self._jobs if (known := self._table.get(name)) is not None}
        self._jobs = {name: job for name, job in self._jobs.items() if states.get(name) in WAITING}
        return [name for name, job in self._jobs.items() if self.remaining_s(job) <= 0]

    async def _touch(self, name: str) -> bool:
        """Returns False if the API server gave no answer: the job stays here, and is touched again."""
        job = self._jobs.get(name)
        try:
            await touch_job(self._server, self._table, name, self._clock.now())
        except ApiServerUnavailable:
            return False
        except RequestRefused as exc:
            log.warning("job not touched at the end of its pause", job=name, message=str(exc))
        except Exception:
            log.exception("job not touched because of an unexpected error", job=name)
        if self._jobs.get(name) is job:  # its event may have come before this answer, with the time of another attempt
            self._jobs.pop(name, None)
        return True
