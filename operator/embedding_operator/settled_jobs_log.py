"""The log lines about jobs that have ended: one a second for all that need nobody's attention, as thousands may end in a minute.

Called by the job runner; the process runs it. A job that is tried again or is a dead letter has a line of its own at once; the
others have one at level debug.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import structlog

from embedding_operator.resources.embedding_job import FINISHED, Phase
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

    def record(self, source: str, *, phase: Phase, reason: str, took_s: float, message: str, **job: object) -> None:
        """An attempt of a job has ended so. `job` says which one it is, and what else is known of it."""
        about = {"source": source, **job, "phase": phase, "reason": reason, "took_s": round(took_s, 3)}
        if phase is Phase.DEAD_LETTERED:
            log.warning("job settled", **about, message=message)
        elif phase not in FINISHED:
            log.info("job settled", **about)
        else:
            log.debug("job settled", **about)
            jobs = self._waiting.setdefault(source, SettledJobs())
            jobs.by_reason[reason] += 1
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
