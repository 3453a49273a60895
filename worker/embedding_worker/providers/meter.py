"""Counts what a source sends before it is sent: texts and tokens of the day, in the database. Called by calls.py and gate.py."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from embedding_worker.clock import Clock
from embedding_worker.errors import DayLimitReached
from embedding_worker.patience import until_answered

BYTES_PER_TOKEN = 3
"""An estimate that is higher than the real number for most languages. The provider bills its own count."""
DAY_LIMIT = "as many texts were sent today (UTC) as spec.maxTextsPerDay allows"


@dataclass(frozen=True)
class Counters:
    """Where a source's texts are counted. The parameters of all of them are numbers of texts and of tokens."""

    acquire_texts: Callable[[int, int], Awaitable[int]]
    """Counts them as sent today. Returns how many of the texts the limit of the day allows."""
    return_texts: Callable[[int, int], Awaitable[None]]
    """They were not sent after all."""


class Meter:
    def __init__(self, counters: Counters, *, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock

    async def acquire(self, texts: Sequence[str]) -> int:
        """Count these texts, or as many of them as may still be sent today. Returns how many.

        Waits while the database is away. Raises DayLimitReached if none may be sent.
        """
        tokens = tokens_of(texts)
        count = self._counters.acquire_texts
        allowed = await until_answered("count texts", lambda: count(len(texts), tokens), clock=self._clock)
        if not allowed:
            raise DayLimitReached(DAY_LIMIT)
        return allowed

    async def give_back(self, texts: Sequence[str]) -> None:
        """These texts were counted, and have not reached the provider."""
        tokens = tokens_of(texts)
        give = self._counters.return_texts
        await until_answered("give texts back", lambda: give(len(texts), tokens), clock=self._clock)


def tokens_of(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN
