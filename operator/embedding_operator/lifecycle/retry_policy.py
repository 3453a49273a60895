"""When a row that failed is tried again: the pauses, and the limit. It decides only; a source's spec sets it."""

from dataclasses import dataclass

JITTER = 0.1
"""Up to a tenth is added to a pause, so that what failed together does not come back together."""


@dataclass(frozen=True)
class RetryPolicy:
    """By default the first try and five retries, after 2, 4, 8, 16 and 32 seconds."""

    max_attempts: int = 6
    initial_s: float = 2
    factor: float = 2
    max_s: float = 32

    def pause_s(self, attempts: int, *, jitter: float) -> float:
        """The pause after so many charged attempts (1 or more), in seconds. `jitter` is between 0 and 1."""
        pause = min(self.initial_s * self.factor ** (attempts - 1), self.max_s)
        return pause * (1 + JITTER * jitter)
