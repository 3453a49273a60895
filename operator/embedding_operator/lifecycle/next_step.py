"""A job and the moment → what is to be done with it: embed, or begin a replay. It decides only.

Only this counts attempts; kopf's own retries are never used.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from embedding_operator.lifecycle.retry_policy import RetryPolicy
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase


@dataclass(frozen=True)
class Embed:
    """Make the row fresh, now."""


@dataclass(frozen=True)
class BeginReplay:
    """Somebody has patched the phase back to Pending: forget the old story first, in one patch."""


@dataclass(frozen=True)
class Nothing:
    """It is finished, or a dead letter."""


Step = Embed | BeginReplay | Nothing


def next_step(job: EmbeddingJob) -> Step:
    """Of a job whose time has come: a pause that is not over yet is kopf's to wait out (see handlers/kopf_storage.py)."""
    if not job.is_open:
        return Nothing()
    if job.status.phase is Phase.PENDING:
        has_a_story = job.status.attempts > 0 or job.status.completion_time is not None
        return BeginReplay() if has_a_story else Embed()
    return Embed()


def next_attempt(attempts: int, policy: RetryPolicy, now: datetime, *, jitter: float) -> tuple[datetime, float] | None:
    """When to try again after so many charged attempts, and the pause in seconds; None at the limit."""
    if attempts >= policy.max_attempts:
        return None
    pause_s = policy.pause_s(attempts, jitter=jitter)
    return now + timedelta(seconds=pause_s), pause_s
