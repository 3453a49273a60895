"""Gathers items that arrive one by one into batches, so that one read, one call and one write serve many items.

Called once for each row, through the operator's row queues. The function that works on a batch is a parameter (see embedding.py).
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Generic, Self

from embedding_worker.batching.queue import Item, ItemQueue, Queued, Result
from embedding_worker.clock import Clock
from embedding_worker.errors import Interrupted

LINGER_S = 0.05
CANCELLED = "the batch was cancelled"
ENDED = "the batcher has ended"


class Batch(Generic[Item, Result]):
    """Distinct items that are worked on together. Each is settled, which means that it gets its result, when that is known.

    All submissions of equal items get the same result.
    """

    def __init__(
        self, waiting: Iterable[tuple[Item, "asyncio.Future[Result]"]], *, keep: Callable[["asyncio.Task[None]"], None]
    ) -> None:
        """`keep` is called with each task of the batch that may outlast its slot: it is cancelled when the batcher ends."""
        self._futures: dict[Item, list[asyncio.Future[Result]]] = {}
        for item, future in waiting:
            self._futures.setdefault(item, []).append(future)
        self.keep = keep
        self._has_slot = True
        self._unfinished: list[Callable[[], Coroutine[Any, Any, None]]] = []

    @property
    def items(self) -> tuple[Item, ...]:
        return tuple(self._futures)

    def settle(self, item: Item, result: Result) -> None:
        """Give the item's result to all who wait for it."""
        for future in self._futures[item]:
            if not future.done():  # it is done if its handler was cancelled
                future.set_result(result)

    def release(self, item: Item, error: Exception) -> None:
        """Give the item back without a result: all who wait for it get this error, and may submit it again."""
        for future in self._futures[item]:
            if not future.done():
                future.set_exception(error)

    def finish_later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this work after the batch has released its slot. It is for work that mostly waits, such as for a lock."""
        if self._has_slot:
            self._unfinished.append(work)
        else:
            self.keep(asyncio.create_task(_settle_all(self, work)))

    def begin_unfinished(self) -> None:
        """The batch has released its slot: begin the work that was put off, and from now on begin such work at once."""
        self._has_slot = False
        for work in self._unfinished:
            self.finish_later(work)

    def fail(self, error: Exception) -> None:
        """Give this error to all who have no result yet."""
        for future in itertools.chain.from_iterable(self._futures.values()):
            if not future.done():
                future.set_exception(error)


class Batcher(Generic[Item, Result]):
    """Gathers up to `max_items`, or as many as arrive in `linger_s`, and works on up to `concurrency` batches at once."""

    def __init__(
        self,
        work: Callable[[Batch[Item, Result]], Awaitable[None]],
        *,
        max_items: int,
        clock: Clock,
        linger_s: float = LINGER_S,
        concurrency: int = 2,
    ) -> None:
        self._work = work
        self.max_items = max_items
        self._clock = clock
        self._linger_s = linger_s
        self._queue: ItemQueue[Item, Result] = ItemQueue()
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Future[Result]] = set()
        self._draining = False
        self._ended = False

    async def __aenter__(self) -> Self:
        self._start(self._gather_continuously())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End at once. All who still wait for a result get Interrupted, and may submit the item to another batcher."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for future in self._waiting:  # in the queue, or in a batch that never began
            if not future.done():
                future.set_exception(Interrupted(ENDED))

    def drain(self) -> None:
        """Work on no other item. All who wait for one that is in no batch yet get Interrupted."""
        self._draining = True
        while not self._queue.is_empty():
            queued = self._queue.take()
            if not queued.result.done():
                queued.result.set_exception(Interrupted(ENDED))

    async def submit(self, item: Item, *, urgent: bool = False) -> Result:
        """The item's own result, as soon as it is known. Urgent items go before all others.

        Raises what its batch's work raised, or Interrupted.
        """
        return await self.enqueue(item, urgent=urgent)

    def enqueue(self, item: Item, *, urgent: bool = False) -> "asyncio.Future[Result]":
        """What `submit` waits for. Raises Interrupted if the batcher accepts nothing any more."""
        if self._ended or self._draining:
            raise Interrupted(ENDED)
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.add(result)
        result.add_done_callback(self._waiting.discard)
        self._queue.put(Queued(item, result), urgent=urgent)
        return result

    async def _gather_continuously(self) -> None:
        while True:
            await self._slots.acquire()  # while all slots are taken, the next batch grows in the queue
            await self._queue.wait(self._clock)
            gathered = [self._queue.take()]
            await self._linger(gathered)
            self._start(self._work_on(gathered))

    async def _linger(self, gathered: list[Queued[Item, Result]]) -> None:
        """Add what is queued already, and what arrives within `linger_s`."""
        deadline = self._clock.monotonic() + self._linger_s
        while len(gathered) < self.max_items:
            if not await self._queue.wait(self._clock, within_s=deadline - self._clock.monotonic()):
                return
            gathered.append(self._queue.take())

    async def _work_on(self, gathered: list[Queued[Item, Result]]) -> None:
        waiting = ((queued.item, queued.result) for queued in gathered if not queued.result.done())
        batch = Batch(waiting, keep=self._keep)
        try:
            if batch.items:
                await _settle_all(batch, partial(self._work, batch))
        finally:
            self._slots.release()
            if not self._ended:
                batch.begin_unfinished()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.create_task(coroutine))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _settle_all(batch: Batch[Item, Result], work: Callable[[], Awaitable[None]]) -> None:
    """Do the work. If it fails, all who still wait for a result of the batch get its error."""
    try:
        await work()
    except asyncio.CancelledError:
        batch.fail(Interrupted(CANCELLED))
        raise
    except Exception as exc:
        batch.fail(exc)
