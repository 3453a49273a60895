"""Shows in the status of each pending job why it waits, where its source has a reason for some time. Called by status_report.py.

A job shows the reason once, and not each message of it: an outage costs one request for each job that waits.
"""

import math

import structlog

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable
from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.condition import Condition
from embedding_operator.reconciler.dead_letters import LOCKED
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.tracked_job import OPEN, JobState, TrackedJob
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

SHOWN_AFTER_S = 10.0
"""Most pauses are over sooner, and cost no request."""
SHOWN_IN_A_TURN, SHOWN_WITHIN_S = 10, 2.0
"""The turn of the loop waits meanwhile."""
LOCKED_SHOWN_AFTER_S = 20.0
MAY_WAIT = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.POSTPONED})


class WaitingJobs:
    """The pending jobs of one source."""

    def __init__(self, source: str, *, server: ApiServer, table: JobTable, clock: Clock) -> None:
        self._source = source
        self._server = server
        self._table = table
        self._clock = clock
        self._reason = ""
        self._since = -math.inf
        self._shown = {""}
        """Reasons that were shown: any other one is that of a failed attempt, and stays."""

    @property
    def are_locked(self) -> bool:
        """Whether another session has locked a row for so long that several attempts to write it have found it locked."""
        long_ago = self._clock.monotonic() - LOCKED_SHOWN_AFTER_S
        jobs = self._table.jobs(self._source, OPEN)
        return any(job.reason == LOCKED and job.reason_since <= long_ago for job in jobs)

    async def show(self, why: Condition | None) -> None:
        """Write the reason into the statuses of some jobs that do not show it yet. Errors of the API server are not raised."""
        reason, now = why.reason if why is not None else "", self._clock.monotonic()
        if reason != self._reason:
            self._reason, self._since = reason, now
        if why is None or now - self._since < SHOWN_AFTER_S:
            return
        waiting = [job for job in self._table.jobs(self._source, MAY_WAIT) if self._is_to_show(job, reason)]
        self._shown.add(reason)
        for job in waiting[:SHOWN_IN_A_TURN]:
            if self._clock.monotonic() - now >= SHOWN_WITHIN_S:
                return
            try:
                version = await self._server.patch_job_status(
                    job.name, {"reason": reason, "message": why.message}, version=job.version
                )
            except ApiServerUnavailable as exc:
                log.debug("reasons of waiting jobs not shown", source=self._source, message=str(exc))
                return
            except ApiServerError as exc:  # it has another status meanwhile, or the next turn tries again
                log.debug("reason of a waiting job not shown", job=job.name, message=str(exc))
            else:
                self._table.explain(job.name, reason, version)

    def _is_to_show(self, job: TrackedJob, reason: str) -> bool:
        return job.reason != reason and job.reason in self._shown and job.version > 0
