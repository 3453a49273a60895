"""Counts what a source sends before it is sent, in the database: for the limit of the day, and for the provider's rate limits.

Called by calls.py and gate.py. Waits while the database is away.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from embedding_worker.clock import Clock
from embedding_worker.errors import CallsPaused, DayLimitReached
from embedding_worker.patience import until_answered
from embedding_worker.rows.records import RateGrant

BYTES_PER_TOKEN = 3
"""An estimate that is higher than the real number for most languages. The provider bills its own count."""
DAY_LIMIT = "as many texts were sent today (UTC) as spec.maxTextsPerDay allows"
LONGEST_WAIT_S = 2.0
"""A call that has to wait for longer for the rate limits gives up its batch's slot."""


@dataclass(frozen=True)
class Counters:
    """Where a source's texts are counted. The first two parameters are numbers of texts and of tokens."""

    acquire_texts: Callable[[int, int], Awaitable[int]]
    """Counts them as sent today. Returns how many of the texts the limit of the day allows."""
    return_texts: Callable[[int, int, float], Awaitable[None]]
    """They were counted so many seconds ago, and were not sent after all."""
    acquire_rate: Callable[[int, int, float], Awaitable[RateGrant]]
    """Reserves a call with them, unless it would have to wait for longer than so many seconds."""


@dataclass(frozen=True)
class Counted:
    """Texts that were counted, and may be sent."""

    texts: Sequence[str]
    at: float
    """When, by the monotonic clock."""


class Meter:
    def __init__(self, counters: Counters, *, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock

    async def acquire(self, texts: Sequence[str]) -> Counted:
        """Count these texts, or as many of them as may still be sent today, and wait until the rate limits allow the call.

        Raises DayLimitReached if none may be sent today, and CallsPaused if the rate limits allow no call soon.
        """
        tokens = tokens_of(texts)
        count = partial(self._counters.acquire_texts, len(texts), tokens)
        allowed = await until_answered("count texts", count, clock=self._clock)
        if not allowed:
            raise DayLimitReached(DAY_LIMIT)
        counted = Counted(texts[:allowed], self._clock.monotonic())
        grant = await self._acquire_rate(counted.texts)
        if not grant.granted:
            await self.give_back(counted)
            raise CallsPaused("the rate limits that are set for the provider are reached", pause_s=grant.wait_s)
        if grant.wait_s > 0:
            await self._clock.sleep(grant.wait_s)
        return counted

    async def _acquire_rate(self, texts: Sequence[str]) -> RateGrant:
        tokens = tokens_of(texts)
        reserve = partial(self._counters.acquire_rate, len(texts), tokens, LONGEST_WAIT_S)
        return await until_answered("keep the rate limits", reserve, clock=self._clock)

    async def give_back(self, counted: Counted) -> None:
        """These texts have not reached the provider. What was reserved of the rate limits stays reserved."""
        texts, tokens, ago_s = len(counted.texts), tokens_of(counted.texts), self._clock.monotonic() - counted.at
        give = partial(self._counters.return_texts, texts, tokens, ago_s)
        await until_answered("give texts back", give, clock=self._clock)


def tokens_of(texts: Sequence[str]) -> int:
    """An estimate."""
    return sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN
