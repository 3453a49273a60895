"""Peeks at the newest change mark of each source seven times a second, and wakes the loop of a source that has a new one.

One statement serves all sources. So an idle source need not sweep to notice an edit. Started by the process while it leads; the
sources' loops register their marks. A loop whose marks cannot be peeked at sweeps by itself, as often as if it had work. Marks
that could not be read are tried again one at a time, so that a table that stays locked delays the others by one time-out at most.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import DatabaseUnavailable, EmbeddingError, StatementTimedOut
from embedding_worker.rows.database import Database
from embedding_worker.rows.peek import newest_marks

log = structlog.get_logger(__name__)

PEEK_EVERY_S = 0.14
"""430 statements a minute, whatever the number of sources; an edit waits for half of that on average."""
PEEK_COSTS = 5
"""After a slow peek, the next one waits for so many times as long as it took: dead entries at the end of an index cost much."""
LONGEST_PAUSE_S = 1.0
UNAVAILABLE_PAUSE_S = 2.0
CURRENT_FOR_S = 2.0
"""What a peek saw is relied on for so long: longer than a slow peek and the pause after it usually take."""
TIMED_OUT_IN_A_ROW = 2
"""After so many tables without an answer, the database is slow, and not these tables are locked."""
RETRY_S = 10.0
"""Marks that cannot be peeked at are tried again after so long."""


def pause_s(took_s: float) -> float:
    """How long to wait after a peek that was answered after so long."""
    return min(max(PEEK_EVERY_S, PEEK_COSTS * took_s), LONGEST_PAUSE_S)


def may_have_new(newest: int | None, before: int | None) -> bool:
    """Whether there may be a mark that the last peek has not seen.

    Marks become visible in the order of their transactions' ends, and sequences can be restarted: so any other number counts,
    also a lower one. A lower number than another's that stays, such as that of a dead letter, is found by the next sweep.
    """
    return newest is not None and newest != before


@dataclass(eq=False)
class PeekedMarks:
    """The change marks of one source, as the last peek saw them."""

    table: str
    clock: Clock
    wake: Callable[[], None] = lambda: None
    newest: int | None = None
    highest: int = 0
    """Of all that were seen. A lower number is not newer: it shows when the marks of rows that are done were deleted."""
    are_new: bool = False
    """A peek has seen one that is higher than all before. The source's sweep sets it back when it begins."""
    seen_at: float | None = None
    """When the last peek succeeded, by the monotonic clock; None once the loop was told that peeks fail."""
    retry_at: float | None = None
    """When marks that could not be read are tried again; None if they are peeked at together with the others."""

    @property
    def is_current(self) -> bool:
        """Whether peeks succeed, so that the source's loop is woken by a new mark."""
        return self.seen_at is not None and self.clock.monotonic() - self.seen_at <= CURRENT_FOR_S

    @property
    def are_none(self) -> bool:
        """Whether it is known that there is no mark."""
        return self.is_current and self.newest is None

    def accept(self, newest: int | None) -> None:
        """A peek has found this."""
        before, self.newest = self.newest, newest
        self.seen_at, self.retry_at = self.clock.monotonic(), None
        if newest is not None and newest > self.highest:
            self.highest, self.are_new = newest, True
        if may_have_new(newest, before):
            self.wake()

    def lose(self) -> None:
        """No peek succeeds any more: the loop has to look by itself."""
        if self.seen_at is not None:
            self.seen_at = None
            self.wake()

    def leave_out(self) -> None:
        """These marks could not be read: they are tried again later, and apart from the others."""
        self.retry_at = self.clock.monotonic() + RETRY_S
        self.lose()


class Peeker:
    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._registered: list[PeekedMarks] = []
        self._any = asyncio.Event()

    @contextmanager
    def peeking(self, marks: PeekedMarks, wake: Callable[[], None]) -> Iterator[None]:
        """Peek at these marks until the block ends. `wake` is called for a new mark, and when peeks begin to fail."""
        marks.wake = wake
        self._registered.append(marks)
        self._any.set()
        try:
            yield
        finally:
            marks.seen_at = None
            self._registered.remove(marks)
            if not self._registered:
                self._any.clear()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._any.wait()
            await self._clock.sleep(await self.peek())

    async def peek(self) -> float:
        """Peek at all marks once. Returns how long to wait for the next peek. Never raises: the task must not end."""
        try:
            return pause_s(await self._peek_at_all())
        except DatabaseUnavailable:  # the loops report it
            pass
        except Exception:
            log.exception("no peek at change marks because of an unexpected error")
        for marks in self._registered:
            marks.lose()
        return UNAVAILABLE_PAUSE_S

    async def _peek_at_all(self) -> float:
        """Returns how long the slowest answer took, time-outs not counted. Raises DatabaseUnavailable.

        If one of the tables is missing or locked, they are peeked at one by one. Of those that were left out, one is tried again.
        """
        now = self._clock.monotonic()
        together = [marks for marks in self._registered if marks.retry_at is None]
        again = [marks for marks in self._registered if marks.retry_at is not None and marks.retry_at <= now]
        try:
            took_s = await self._peek_at(together)
        except DatabaseUnavailable:
            raise
        except EmbeddingError:
            return await self._peek_at_each(together)
        return max(took_s, await self._peek_at_each(again[:1]))

    async def _peek_at_each(self, tried: Sequence[PeekedMarks]) -> float:
        """Returns and raises the same. Tables that cannot be read are left out. Stops when several in a row give no answer."""
        took_s, timed_out = 0.0, 0
        for marks in tried:
            try:
                took_s = max(took_s, await self._peek_at([marks]))
                timed_out = 0
            except DatabaseUnavailable:
                raise
            except EmbeddingError as exc:
                marks.leave_out()
                self._lose_outdated()
                timed_out = timed_out + 1 if isinstance(exc, StatementTimedOut) else 0
                if timed_out == TIMED_OUT_IN_A_ROW:
                    raise DatabaseUnavailable("the database is slow: peeks at several tables got no answer") from exc
        return took_s

    async def _peek_at(self, tried: Sequence[PeekedMarks]) -> float:
        """One statement. Returns how long it took. Raises EmbeddingError."""
        if not tried:
            return 0.0
        began = self._clock.monotonic()
        newest = await newest_marks(self._database, [marks.table for marks in tried])
        if newest is None:
            for marks in tried:
                marks.leave_out()
        else:
            for marks, number in zip(tried, newest, strict=True):
                marks.accept(number)
        return self._clock.monotonic() - began

    def _lose_outdated(self) -> None:
        """The loops of sources that were not peeked at for so long look by themselves."""
        for marks in self._registered:
            if not marks.is_current:
                marks.lose()
