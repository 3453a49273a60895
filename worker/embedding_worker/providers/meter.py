"""Counts what a source sends before it is sent, in the database: for its limits, and for the provider's rate limits.

Called by calls.py and gate.py. Waits while the database is away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from embedding_worker.clock import Clock
from embedding_worker.errors import (
    CallsPaused,
    DatabaseUnavailable,
    RowsRefused,
    StatementTimedOut,
    TableRefused,
)
from embedding_worker.limits import Granted, Reached
from embedding_worker.patience import Unanswered, until_answered
from embedding_worker.providers.embedder import running_tokens, tokens_of
from embedding_worker.rows.records import RateGrant, UsageNote
from embedding_worker.usage_log import UsageLog

Answer = TypeVar("Answer")
NOT_ALLOWED = "as much was sent as spec.limits allows"
FIRST_CALL_WAITS_S = 2.0
"""A batch that has to wait for longer for its first call gives up its slot."""
AHEAD_S = FIRST_CALL_WAITS_S / 2
"""It comes back so long before its turn, and reserves it: a turn that nobody has reserved in time is lost. With 100 texts in a
call, and 3,000 allowed in a minute, 30% of the quota were seen to stay unused without this."""
PATIENTLY_S = 3_600.0
"""A batch that has begun keeps its slot while it waits for the rate limits: if it gave up, the same set of rows would fail in the
same way each time."""


@dataclass(frozen=True)
class Counters:
    """Where a source's texts are counted."""

    acquire_texts: Callable[[Sequence[int]], Awaitable[Granted]]
    """Counts texts as sent today, as many as the limits allow, by the tokens of the first text, of the first two, and so on."""
    return_texts: Callable[[int, int, float], Awaitable[None]]
    """So many texts and tokens were counted so many seconds ago, and were not sent after all."""
    acquire_rate: Callable[[int, int, float], Awaitable[RateGrant]]
    """Reserves a call of so many texts and tokens, unless it would have to wait for longer than so many seconds."""
    record_usage: Callable[[Sequence[UsageNote]], Awaitable[None]]
    """Records what is known of calls after they have succeeded."""


@dataclass(frozen=True)
class Counted:
    """Texts that were counted, and may be sent."""

    texts: Sequence[str]
    at: float
    """When, by the monotonic clock."""


@dataclass(frozen=True)
class Uncounted:
    """Texts of one batch that are to be counted."""

    tokens: Sequence[int]
    """Of the first text, of the first two, and so on."""
    allowed: "asyncio.Future[Granted]"
    """How many of them may be sent. Cancelled with the batch."""

    @property
    def is_waited_for(self) -> bool:
        return not self.allowed.done()


class Meter:
    def __init__(self, counters: Counters, *, clock: Clock, source: str = "") -> None:
        """`source` is its name in the log."""
        self.unanswered = Unanswered(source)
        self.usage = UsageLog(counters.record_usage, source=source, clock=clock)
        self._counters = counters
        self._clock = clock
        self._uncounted: list[Uncounted] = []
        """Those that have come since the statement that is running was sent."""
        self._counted: list[Uncounted] = []
        """Those of the statement that is running."""
        self._counting: asyncio.Task[None] | None = None

    async def acquire(self, texts: Sequence[str], *, longest_wait_s: float) -> Counted:
        """Wait until the rate limits allow a call with these texts, and count as many of them as may still be sent today.

        Raises CallsPaused if the rate limits allow no call within `longest_wait_s`, and LimitReached if the source's limits do.
        """
        tokens = running_tokens(texts)
        reserve = partial(self._counters.acquire_rate, len(texts), tokens[-1], longest_wait_s)
        grant = await self._answered("keep the rate limits", reserve)
        if not grant.granted:
            pause_s = max(0.0, grant.wait_s - AHEAD_S)
            raise CallsPaused("the rate limits that are set for the provider are reached", pause_s=pause_s)
        if grant.wait_s > 0:
            await self._clock.sleep(grant.wait_s)
        granted = await self._count(tokens)
        if not granted.texts:
            raise (granted.reached or Reached("DayLimitReached", NOT_ALLOWED)).as_error()
        return Counted(texts[: granted.texts], self._clock.monotonic())

    async def _count(self, tokens: Sequence[int]) -> Granted:
        """How many of these texts may still be sent. Batches that ask at the same time are counted by one statement."""
        mine = Uncounted(tokens, asyncio.get_running_loop().create_future())
        self._uncounted.append(mine)
        if self._counting is None or self._counting.done():
            # In a task of its own: a batch that is cancelled does not stop the statement of the others.
            self._counting = asyncio.create_task(self._count_all(), name="count texts")
        try:
            return await mine.allowed
        finally:
            if self._counting is not None and not any(each.is_waited_for for each in self._counted + self._uncounted):
                self._counting.cancel()
                self._counting = None

    async def _count_all(self) -> None:
        """Until no batch waits."""
        while together := [each for each in self._uncounted if each.is_waited_for]:
            self._counted, self._uncounted = together, []
            await self._count_together(together)

    async def _count_together(self, together: Sequence[Uncounted]) -> None:
        tokens: list[int] = []
        for each in together:
            before = tokens[-1] if tokens else 0
            tokens += [before + number for number in each.tokens]
        count = partial(self._counters.acquire_texts, tokens)
        try:
            granted = await self._answered("count texts", count)
        except Exception as exc:
            for each in together:
                if each.is_waited_for:
                    each.allowed.set_exception(exc)
            return
        except asyncio.CancelledError:
            for each in together:
                each.allowed.cancel()
            raise
        left = granted.texts
        for each in together:
            allowed = min(len(each.tokens), left)
            left -= allowed
            if each.is_waited_for:
                each.allowed.set_result(Granted(allowed, granted.reached))

    async def give_back(self, counted: Counted) -> None:
        """These texts have not reached the provider. What was reserved of the rate limits stays reserved."""
        texts, tokens, ago_s = len(counted.texts), tokens_of(counted.texts), self._clock.monotonic() - counted.at
        give = partial(self._counters.return_texts, texts, tokens, ago_s)
        await self._answered("give texts back", give)

    async def _answered(self, what: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer, as soon as the database gives one. Raises TableRefused if it refuses a statement of this module."""

        async def counted() -> Answer:
            try:
                return await ask()
            except StatementTimedOut as exc:  # the statements touch one line of a table: the database is slow
                raise DatabaseUnavailable(exc.message) from exc
            except RowsRefused as exc:
                raise TableRefused(exc.reason, exc.message) from exc

        return await until_answered(what, counted, clock=self._clock, unanswered=self.unanswered)
