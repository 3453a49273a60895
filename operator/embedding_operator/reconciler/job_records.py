"""What is informed of a job's outcome, in addition to the job's status: metrics, Events, the log, and the window.

Called by job_runner.py.
"""

from collections.abc import Callable

import structlog

from embedding_operator.event_poster import EventPoster
from embedding_operator.lifecycle.events import dead_lettered, replayed
from embedding_operator.lifecycle.job_status import JobPatch
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler.settled_jobs_log import SettledJobsLog
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase
from embedding_worker.clock import Clock
from embedding_worker.outcome import OutcomeKind

log = structlog.get_logger(__name__)


class JobRecords:
    def __init__(self, metrics: Metrics, events: EventPoster, *, job_done: Callable[[str], None], clock: Clock) -> None:
        """`job_done` is called with the source's name when a job no longer counts towards the window."""
        self._metrics = metrics
        self._events = events
        self._settled_jobs = SettledJobsLog(clock=clock)
        self._job_done = job_done

    async def run(self) -> None:
        """Write the log lines that wait, until cancelled."""
        await self._settled_jobs.run()

    def record_fresh(self, source: str, *, edited_s_ago: float) -> None:
        """An edit that was begun so long ago has its vector."""
        self._metrics.record_fresh(source, edited_s_ago=edited_s_ago)

    def record_replay(self, job: EmbeddingJob) -> None:
        """A replay of this job has begun."""
        self._metrics.record_replay(job.source)
        self._events.emit(replayed(job))
        log.info("job replayed", job=job.name, source=job.source, business=job.spec.business_id)

    def record_attempt(self, job: EmbeddingJob, patch: JobPatch, *, took_s: float) -> None:
        """An attempt of the job has ended, and this status is written."""
        reason = str(patch.status["reason"])
        self._metrics.record_job(job.source, phase=patch.phase, reason=reason, took_s=took_s)
        if patch.phase is Phase.DEAD_LETTERED:
            self._events.emit(dead_lettered(job, patch))
        self._settled_jobs.record(job, patch, took_s=took_s)
        if reason == OutcomeKind.EMBEDDED.value:
            self._record_embedded(job)
        if patch.phase is not Phase.RETRYING:
            self._job_done(job.source)

    def _record_embedded(self, job: EmbeddingJob) -> None:
        source, business = job.source, job.spec.business_id
        if self._metrics.record_embedded(source, business):
            log.warning(
                "row embedded again and again: look for what changes its text after each write of its vector",
                job=job.name,
                source=source,
                business=business,
            )
