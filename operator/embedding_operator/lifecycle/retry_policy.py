"""Decides when a row that failed is tried again: the pauses and the limit that `spec.retry` of a source sets. Pure.

Called by job_status.py. By default there are six attempts, the later five after 2, 4, 8, 16 and 32 seconds.
"""

from datetime import datetime, timedelta

from embedding_operator.resources.embedding_source import RetrySpec
from embedding_worker.outcome import LONGEST_LOCKED_PAUSE_S, OutcomeKind

JITTER = 0.1
"""Up to a tenth is added to a pause, so that rows that failed together are not all tried again together."""


def pause_s(policy: RetrySpec, attempts: int, *, jitter: float) -> float:
    """The pause after so many counted attempts (1 or more), in seconds. `jitter` is between 0 and 1."""
    pause = min(policy.initial_seconds * float(policy.factor) ** (attempts - 1), policy.max_seconds)
    return pause * (1 + JITTER * jitter)


def longest_pause_s(policy: RetrySpec, reason: str = "") -> float:
    """No pause for this reason is longer. One that is was computed by a wrong clock, or written by a person.

    The pause of a locked row is not the policy's.
    """
    longest = policy.max_seconds * (1 + JITTER)
    return max(longest, LONGEST_LOCKED_PAUSE_S) if reason == OutcomeKind.ROW_LOCKED.value else longest


def next_attempt(attempts: int, policy: RetrySpec, now: datetime, *, jitter: float) -> tuple[datetime, float] | None:
    """When to try again after so many counted attempts, and the pause in seconds; None when the limit is reached."""
    if attempts >= policy.max_attempts:
        return None
    pause = pause_s(policy, attempts, jitter=jitter)
    return now + timedelta(seconds=pause), pause
