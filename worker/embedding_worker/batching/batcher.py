"""Company for a row: gathers what arrives one by one into batches, so that one read, one call and one write serve many.

Called by the job handler's side for each row; what is done with a batch is given to it (see freshen.py).
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from embedding_worker.errors import Interrupted

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(Generic[Item, Result]):
    """Some items that are worked on together. Each is settled by its place, as soon as its own result is known."""

    def __init__(self, waiting: Sequence[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        self.items: tuple[Item, ...] = tuple(item for item, _ in waiting)
        self.unfinished: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._futures = [future for _, future in waiting]

    def settle(self, place: int, result: Result) -> None:
        if not self._futures[place].done():  # done already: its handler was cancelled
            self._futures[place].set_result(result)

    def later(self, rest: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Go on with `rest` after the batch has given its slot to the next one; it only waits for others."""
        self.unfinished.append(rest)

    def fail(self, error: Exception) -> None:
        """Whoever is not settled yet gets this error."""
        for future in self._futures:
            if not future.done():
                future.set_exception(error)


@dataclass(order=True)
class _Queued(Generic[Item, Result]):
    """In the order of the queue: what is urgent first, then as it came."""

    later: bool
    number: int
    item: Item = field(compare=False)
    result: "asyncio.Future[Result]" = field(compare=False)


class Batcher(Generic[Item, Result]):
    """Gathers up to `max_items`, or as many as arrive in `linger_s`, and works on up to `concurrency` batches at once."""

    def __init__(
        self,
        work: Callable[[Batch[Item, Result]], Awaitable[None]],
        *,
        max_items: int,
        linger_s: float = 0.05,
        concurrency: int = 2,
    ) -> None:
        self._work = work
        self._max_items = max_items
        self._max_wait_s = linger_s
        self._queue: asyncio.PriorityQueue[_Queued[Item, Result]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Future[Result]] = set()
        self._ended = False

    async def __aenter__(self) -> Self:
        self._start(self._gather_for_ever())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Ends at once: whoever still waits for a result gets Interrupted, and may submit it elsewhere."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for future in self._waiting:  # in the queue, or in a batch that never began
            if not future.done():
                future.set_exception(Interrupted("the batcher has ended"))

    async def submit(self, item: Item, *, urgent: bool = False) -> Result:
        """The item's own result, as soon as it is known. What is urgent goes before all that is not.

        Raises what its batch's work raised, or Interrupted.
        """
        if self._ended:
            raise Interrupted("the batcher has ended")
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.add(result)
        result.add_done_callback(self._waiting.discard)
        self._queue.put_nowait(_Queued(not urgent, next(self._numbers), item, result))
        return await result

    async def _gather_for_ever(self) -> None:
        while True:
            await self._slots.acquire()  # while all slots are taken, the next batch grows in the queue
            gathered = [await self._queue.get()]
            await self._add_company(gathered)
            self._start(self._done(gathered))

    async def _add_company(self, gathered: list[_Queued[Item, Result]]) -> None:
        deadline = asyncio.get_running_loop().time() + self._max_wait_s
        while len(gathered) < self._max_items:
            try:
                async with asyncio.timeout_at(deadline):
                    gathered.append(await self._queue.get())
            except TimeoutError:
                return

    async def _done(self, gathered: list[_Queued[Item, Result]]) -> None:
        batch = Batch([(queued.item, queued.result) for queued in gathered if not queued.result.done()])
        try:
            if batch.items:
                await self._work(batch)
        except asyncio.CancelledError:
            batch.fail(Interrupted("the batch was put down"))
            raise
        except Exception as exc:
            batch.fail(exc)
        finally:
            self._slots.release()
            for rest in () if self._ended else batch.unfinished:
                self._start(self._rest_of(batch, rest))

    async def _rest_of(self, batch: Batch[Item, Result], rest: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await rest()
        except asyncio.CancelledError:
            batch.fail(Interrupted("the batch was put down"))
            raise
        except Exception as exc:
            batch.fail(exc)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
