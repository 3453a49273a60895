"""Which open jobs nobody works on, though somebody should: a patch that was refused leaves kopf idle for ever.

It decides only; housekeeping touches them.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from embedding_operator.resources.embedding_job import EmbeddingJob

PATIENCE = timedelta(seconds=30)
"""How long a job may lie before somebody has it in hand: its watch event may be on its way."""
MOST_AT_ONCE = 50


def forsaken(jobs: Iterable[EmbeddingJob], *, in_hand: Collection[str], now: datetime) -> list[EmbeddingJob]:
    """Open jobs that no handler here has in hand and whose time has come, and passed. Oldest first, a few at a time."""
    found = [job for job in jobs if job.is_open and job.name not in in_hand and _its_time(job) < now - PATIENCE]
    return sorted(found, key=_its_time)[:MOST_AT_ONCE]


def _its_time(job: EmbeddingJob) -> datetime:
    return job.status.next_attempt_time or job.metadata.creation_timestamp
