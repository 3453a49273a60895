"""Decides which open jobs are orphaned: nobody works on them although their time has come. Pure; housekeeping touches them.

It happens when the API server refuses the patch of a status, or when a watch has lost an event.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from embedding_operator.reconciler.job_table import JobState, TrackedJob

PATIENCE_S = 30.0
"""How long a job may wait for its handler: the event that starts it may be on its way."""
MAX_AT_ONCE = 50


def orphaned(jobs: Iterable[TrackedJob], *, monotonic: float, now: datetime) -> list[str]:
    """The names of orphaned jobs, those that have waited longest first, at most MAX_AT_ONCE."""
    waiting = [job for job in jobs if _waits_too_long(job, monotonic=monotonic, now=now)]
    return [job.name for job in sorted(waiting, key=lambda job: job.since)[:MAX_AT_ONCE]]


def _waits_too_long(job: TrackedJob, *, monotonic: float, now: datetime) -> bool:
    if monotonic - job.since < PATIENCE_S:
        return False
    if job.state is JobState.BACKING_OFF:
        return job.not_before is None or now > job.not_before + timedelta(seconds=PATIENCE_S)
    return job.state is JobState.QUEUED
