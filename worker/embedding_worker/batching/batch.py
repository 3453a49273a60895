"""One batch of items, and the slots in which batches are worked on. Called by batcher.py, and by the backfill for its pages."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from embedding_worker.errors import Interrupted

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")
CANCELLED = "the batch was cancelled"


class Batch(Generic[Item, Result]):
    """Distinct items that are worked on together. Each is settled, which means that it gets its result, when that is known."""

    def __init__(
        self,
        items: Iterable[Item],
        *,
        give: Callable[[Item, Result | Exception], None],
        keep: Callable[["asyncio.Task[None]"], None],
        leave: Callable[[], None],
    ) -> None:
        """`give` is called once for each item, with its result or with the error because of which it has none. `keep` is called
        with each task of the batch that may outlast its slot: it is cancelled when the slots end. `leave` gives the slot back.
        """
        self._open = dict.fromkeys(items)
        self._give = give
        self.keep = keep
        self._leave = leave
        self._has_slot = True
        self._unfinished: list[Callable[[], Coroutine[Any, Any, None]]] = []

    @property
    def items(self) -> tuple[Item, ...]:
        """Those that have no result yet, in the order in which they were given."""
        return tuple(self._open)

    def settle(self, item: Item, result: Result) -> None:
        """Give the item its result."""
        self._close(item, result)

    def release(self, item: Item, error: Exception) -> None:
        """Give the item back without a result: what waits for it gets this error, and may submit it again."""
        self._close(item, error)

    def fail(self, error: Exception) -> None:
        """Give this error to all items that have no result yet."""
        for item in self.items:
            self._close(item, error)

    def _close(self, item: Item, result: Result | Exception) -> None:
        if item in self._open:
            del self._open[item]
            self._give(item, result)

    def finish_later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this work after the batch has released its slot. It is for work that mostly waits, such as for a lock."""
        if self._has_slot:
            self._unfinished.append(work)
        else:
            self.keep(asyncio.create_task(_settle_all(self, work)))

    def leave_slot(self, *, begin_unfinished: bool = True) -> None:
        """Give the slot back to the next batch, if that was not done before: what is left to do needs none.

        Then begin the work that was put off, and from now on begin such work at once.
        """
        if not self._has_slot:
            return
        self._has_slot = False
        self._leave()
        for work in self._unfinished if begin_unfinished else ():
            self.finish_later(work)


class Slots:
    """So many batches are worked on at once. It keeps all of their tasks, and ends them."""

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    async def take(self) -> None:
        """Wait for a free slot, and take it: for the next batch."""
        await self._free.acquire()

    def give_back(self) -> None:
        """The slot that was taken is free."""
        self._free.release()

    def begin(
        self,
        items: Iterable[Item],
        work: Callable[[Batch[Item, Result]], Awaitable[None]],
        *,
        give: Callable[[Item, Result | Exception], None],
    ) -> None:
        """Work on a batch of these items in the slot that was taken."""
        batch: Batch[Item, Result] = Batch(items, give=give, keep=self.keep, leave=self.give_back)
        self.keep(asyncio.create_task(self._work_on(batch, work)))

    async def _work_on(
        self, batch: Batch[Item, Result], work: Callable[[Batch[Item, Result]], Awaitable[None]]
    ) -> None:
        try:
            await _settle_all(batch, partial(work, batch))
        finally:
            batch.leave_slot(begin_unfinished=not self._ended)

    def keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Cancel all work, and return when it has ended. Items of a batch without a result get Interrupted."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _settle_all(batch: Batch[Any, Any], work: Callable[[], Awaitable[None]]) -> None:
    """Do the work. If it fails, all items of the batch that have no result get its error."""
    try:
        await work()
    except asyncio.CancelledError:
        batch.fail(Interrupted(CANCELLED))
        raise
    except Exception as exc:
        batch.fail(exc)
