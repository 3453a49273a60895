"""Peeks at the newest change mark of each source nine times a second, and wakes the loop of a source that has a new one.

One statement serves all sources. So an idle source need not sweep to notice an edit. Started by the process while it leads; the
sources' loops register their marks. A loop whose marks cannot be peeked at sweeps by itself, as often as if it had work.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import DatabaseUnavailable, EmbeddingError
from embedding_worker.rows.database import Database
from embedding_worker.rows.peek import newest_marks

log = structlog.get_logger(__name__)

PEEK_EVERY_S = 0.11
"""540 statements a minute, whatever the number of sources; an edit waits for half of that on average."""
PEEK_COSTS = 5
"""After a slow peek, the next one waits for so many times as long as it took: dead entries at the end of an index cost much."""
UNAVAILABLE_PAUSE_S = 2.0
RETRY_S = 10.0
"""Marks that cannot be peeked at are tried again after so long."""


def pause_s(took_s: float) -> float:
    """How long to wait after a peek."""
    return max(PEEK_EVERY_S, PEEK_COSTS * took_s)


def has_new(newest: int | None, before: int | None) -> bool:
    """Whether there may be a mark that the last peek has not seen.

    Marks become visible in the order of their transactions' ends, and sequences can be restarted: so any other number counts,
    also a lower one. A lower number than another's that stays, such as that of a dead letter, is found by the next sweep.
    """
    return newest is not None and newest != before


@dataclass(eq=False)
class PeekedMarks:
    """The change marks of one source, as the last peek saw them."""

    table: str
    wake: Callable[[], None] = lambda: None
    newest: int | None = None
    are_new: bool = False
    """A peek has seen a new one. The source's sweep sets it back when it begins."""
    is_current: bool = False
    """Whether peeks succeed, so that the source's loop is woken by a new mark."""
    retry_at: float = float("-inf")

    @property
    def are_none(self) -> bool:
        """Whether it is known that there is no mark."""
        return self.is_current and self.newest is None

    def accept(self, newest: int | None) -> None:
        """A peek has found this."""
        before, self.newest, self.is_current, self.retry_at = self.newest, newest, True, float("-inf")
        if has_new(newest, before):
            self.are_new = True
            self.wake()

    def lose(self) -> None:
        """No peek succeeds any more: the loop has to look by itself."""
        if self.is_current:
            self.is_current = False
            self.wake()


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
            marks.is_current = False
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
        began = self._clock.monotonic()
        tried = [marks for marks in self._registered if marks.retry_at <= began]
        try:
            if tried:
                await self._peek_at(tried)
        except DatabaseUnavailable:  # the loops report it
            self._lose(tried)
            return UNAVAILABLE_PAUSE_S
        except Exception:
            log.exception("no peek at change marks because of an unexpected error")
            self._lose(tried)
            return UNAVAILABLE_PAUSE_S
        return pause_s(self._clock.monotonic() - began)

    async def _peek_at(self, tried: Sequence[PeekedMarks]) -> None:
        """Raises DatabaseUnavailable. If one of the tables is missing or locked, the others are peeked at one by one."""
        try:
            newest = await newest_marks(self._database, [marks.table for marks in tried])
        except DatabaseUnavailable:
            raise
        except EmbeddingError:
            self._leave_out(tried)
            for marks in tried if len(tried) > 1 else ():
                await self._peek_at([marks])
            return
        if newest is None:
            self._leave_out(tried)
            return
        for marks, number in zip(tried, newest, strict=True):
            marks.accept(number)

    def _leave_out(self, tried: Sequence[PeekedMarks]) -> None:
        self._lose(tried)
        for marks in tried:
            marks.retry_at = self._clock.monotonic() + RETRY_S

    def _lose(self, tried: Sequence[PeekedMarks]) -> None:
        for marks in tried:
            marks.lose()
