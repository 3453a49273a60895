"""Company for a row: gathers what arrives one by one into batches, so that one read, one call and one write serve many.

Called by the job handler's side for each row; what is done with a batch is given to it (see freshen.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, Self, TypeVar

from embedding_worker.errors import Interrupted

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(Generic[Item, Result]):
    """Some items that are worked on together. Each is settled by its place, as soon as its own result is known."""

    def __init__(self, waiting: Sequence[tuple[Item, "asyncio.Future[Result]"]], free_slot: Callable[[], None]) -> None:
        self.items: tuple[Item, ...] = tuple(item for item, _ in waiting)
        self._futures = [future for _, future in waiting]
        self._free_slot: Callable[[], None] | None = free_slot

    def settle(self, place: int, result: Result) -> None:
        if not self._futures[place].done():  # done already: its handler was cancelled
            self._futures[place].set_result(result)

    def refuse(self, place: int, error: Exception) -> None:
        """This one gets an error; the others go on."""
        if not self._futures[place].done():
            self._futures[place].set_exception(error)

    def fail(self, error: Exception) -> None:
        """Whoever is not settled yet gets this error."""
        for future in self._futures:
            if not future.done():
                future.set_exception(error)

    def free_slot(self) -> None:
        """Let the next batch begin: what is left of this one only waits for others."""
        if self._free_slot is not None:
            self._free_slot()
            self._free_slot = None


class Batcher(Generic[Item, Result]):
    """Gathers up to `max_items`, or as many as arrive in `max_wait_s`, and works on up to `concurrency` batches at once."""

    def __init__(
        self,
        work: Callable[[Batch[Item, Result]], Awaitable[None]],
        *,
        max_items: int,
        max_wait_s: float = 0.05,
        concurrency: int = 2,
    ) -> None:
        self._work = work
        self._max_items = max_items
        self._max_wait_s = max_wait_s
        self._queue: asyncio.Queue[tuple[Item, asyncio.Future[Result]]] = asyncio.Queue()
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

    async def submit(self, item: Item) -> Result:
        """The item's own result, as soon as it is known. Raises what its batch's work raised, or Interrupted."""
        if self._ended:
            raise Interrupted("the batcher has ended")
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.add(result)
        result.add_done_callback(self._waiting.discard)
        self._queue.put_nowait((item, result))
        return await result

    async def _gather_for_ever(self) -> None:
        while True:
            await self._slots.acquire()  # while all slots are taken, the next batch grows in the queue
            gathered = [await self._queue.get()]
            await self._add_company(gathered)
            self._start(self._done(gathered))

    async def _add_company(self, gathered: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        deadline = asyncio.get_running_loop().time() + self._max_wait_s
        while len(gathered) < self._max_items:
            try:
                async with asyncio.timeout_at(deadline):
                    gathered.append(await self._queue.get())
            except TimeoutError:
                return

    async def _done(self, gathered: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        batch = Batch([(item, future) for item, future in gathered if not future.done()], self._slots.release)
        try:
            if batch.items:
                await self._work(batch)
        except asyncio.CancelledError:
            batch.fail(Interrupted("the batch was put down"))
            raise
        except Exception as exc:
            batch.fail(exc)
        finally:
            batch.free_slot()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
