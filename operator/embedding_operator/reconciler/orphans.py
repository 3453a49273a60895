"""Decides which open jobs are orphaned: nobody works on them although their time has come. Pure; housekeeping touches them.

It happens when the API server refuses the patch of a status, or when a watch has lost an event.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from embedding_operator.reconciler.tracked_job import JobState, TrackedJob

PATIENCE_S = 30.0
"""How long a job may wait for its handler: the event that starts it may be on its way."""
MAX_AT_ONCE = 50


def orphaned(
    jobs: Iterable[TrackedJob], *, monotonic: float, now: datetime, longest_pause_s: Callable[[str, str], float]
) -> list[str]:
    """The names of orphaned jobs, those that have waited longest first, at most MAX_AT_ONCE.

    `longest_pause_s` is that of a source, for a reason.
    """
    waiting = [
        job
        for job in jobs
        if _waits_too_long(job, monotonic=monotonic, now=now, longest_pause_s=longest_pause_s(job.source, job.reason))
    ]
    return [job.name for job in sorted(waiting, key=lambda job: job.since)[:MAX_AT_ONCE]]


def remaining_pause_s(not_before: datetime, *, waited_s: float, longest_pause_s: float, now: datetime) -> float:
    """How long a job that backs off waits from now on; negative where its time has come.

    A clock may have been wrong when `not_before` was written, or may be now. So no job waits for longer than its source's
    longest pause, measured from when this process has first seen that it backs off.
    """
    return min((not_before - now).total_seconds(), longest_pause_s - waited_s)


def _waits_too_long(job: TrackedJob, *, monotonic: float, now: datetime, longest_pause_s: float) -> bool:
    if job.state is JobState.HELD:
        return not job.is_held(monotonic)
    waited_s = monotonic - job.since
    if waited_s < PATIENCE_S:
        return False
    if job.state is JobState.BACKING_OFF and job.not_before is not None:
        remaining_s = remaining_pause_s(job.not_before, waited_s=waited_s, longest_pause_s=longest_pause_s, now=now)
        return remaining_s < -PATIENCE_S
    if job.state is JobState.BACKING_OFF:
        return True
    return job.state is JobState.QUEUED
