"""The log lines about jobs that have ended: one a second for all that nobody has to look at, as thousands may end in a minute.

Called by job_records.py; the process runs it. A job that is tried again or is a dead letter has a line of its own at once; the
others have one at level debug.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import structlog

from embedding_operator.lifecycle.job_status import JobPatch
from embedding_operator.resources.embedding_job import FINISHED, EmbeddingJob, Phase
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

EVERY_S = 1.0


@dataclass
class SettledJobs:
    """Those of a source since the last line."""

    by_reason: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0


class SettledJobsLog:
    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, SettledJobs] = {}
        self._any = asyncio.Event()

    def record(self, job: EmbeddingJob, patch: JobPatch, *, took_s: float) -> None:
        """An attempt of the job has ended, and this status is written."""
        phase, status = patch.phase, patch.status
        about: dict[str, object] = {
            "job": job.name,
            "source": job.source,
            "business": job.spec.business_id,
            "phase": phase,
            "reason": status["reason"],
            "attempts": status["attempts"],
            "took_s": round(took_s, 3),
        }
        if phase is Phase.DEAD_LETTERED:
            log.warning("job settled", **about, message=status["message"])
        elif phase not in FINISHED:
            log.info("job settled", **about)
        else:
            log.debug("job settled", **about)
            jobs = self._waiting.setdefault(job.source, SettledJobs())
            jobs.by_reason[status["reason"]] += 1
            jobs.longest_s = max(jobs.longest_s, took_s)
            self._any.set()

    async def run(self) -> None:
        """Run until cancelled. What is left then is written."""
        try:
            while True:
                await self._any.wait()
                await self._clock.sleep(EVERY_S)
                self._write()
        finally:
            self._write()

    def _write(self) -> None:
        self._any.clear()
        for source, jobs in self._waiting.items():
            log.info(
                "jobs settled",
                source=source,
                jobs=jobs.by_reason.total(),
                reasons=dict(jobs.by_reason),
                longest_s=round(jobs.longest_s, 3),
            )
        self._waiting.clear()
