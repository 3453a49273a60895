"""Gathers items that arrive one by one into batches, so that one read, one call and one write serve many items.

Called once for each row, through the operator's row queues. The function that works on a batch is a parameter (see embedding.py).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Generic, Self

from embedding_worker.batching.batch import Batch, Item, Result, Slots
from embedding_worker.batching.queue import ItemQueue, Queued
from embedding_worker.clock import Clock
from embedding_worker.errors import Interrupted

LINGER_S = 0.05
QUIET_S = 2.0
"""How long a batch waits for the next item while more are known to come, and none of the batch is urgent. Jobs are created a
hundred in a second or so: with 50 ms alone, 2,000 jobs of a first fill were seen to cost 136 calls of up to 100 texts."""
LONGEST_LINGER_S = 10.0
URGENT_LINGER_S = 0.25
"""The same for a batch with urgent items, from its first item on, while others like them are about to arrive: 300 rows that were
edited together cost 33 to 51 calls with 50 ms alone, and most of such rows wait longer than this for their jobs."""
ENDED = "the batcher has ended"


class Batcher(Generic[Item, Result]):
    """Gathers up to `max_items`, or as many as arrive in time, and works on up to `concurrency` batches at once.

    One more batch is worked on at the same time if it has urgent items only, so that these never wait for a slot of others.
    """

    def __init__(
        self,
        work: Callable[[Batch[Item, Result]], Awaitable[None]],
        *,
        max_items: int,
        clock: Clock,
        linger_s: float = LINGER_S,
        concurrency: int = 2,
        more_to_come: Callable[[int, bool], bool] = lambda gathered, urgent: False,
        of_one_call: Callable[[], int] | None = None,
    ) -> None:
        """`more_to_come`: whether others will soon be submitted, although so many are in no batch yet; with True, whether urgent
        ones are about to be. `of_one_call`: how many items one call takes now, where that is less than `max_items`: an urgent
        item waits for a batch, and so for all its calls.
        """
        self._work = work
        self.max_items = max_items
        self._clock = clock
        self._linger_s = linger_s
        self._more_to_come = more_to_come
        self._of_one_call = of_one_call or (lambda: max_items)
        self._queue: ItemQueue[Item, Result] = ItemQueue()
        self._slots = Slots(concurrency)
        self._urgent_slot = Slots(1)
        """For urgent items that arrive while all others are taken."""
        self._all_taken = asyncio.Event()
        self._gathered: list[Queued[Item, Result]] = []
        """The batch that is being gathered, from all items."""
        self._waiting: set[asyncio.Future[Result]] = set()
        self._draining = False
        self._ended = False

    async def __aenter__(self) -> Self:
        self._slots.keep(asyncio.create_task(self._gather_continuously()))
        self._urgent_slot.keep(asyncio.create_task(self._gather_urgent()))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End at once. All who still wait for a result get Interrupted, and may submit the item to another batcher."""
        self._ended = True
        await self._slots.end()
        await self._urgent_slot.end()
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
        self._queue.put(Queued(item, result, urgent))
        return result

    def hurry(self, item: Item) -> None:
        """Make an item that is in no batch yet urgent. If its batch is being gathered, that begins."""
        if self._ended or self._draining:
            return
        for queued in [queued for queued in self._gathered if queued.item == item and not queued.urgent]:
            self._gathered.remove(queued)
            self._queue.put(replace(queued, urgent=True))  # what gathers the batch waits for the queue
        self._queue.hurry(item)

    async def _gather_continuously(self) -> None:
        while True:
            self._all_taken.set()
            await self._slots.take()  # while all slots are taken, the next batch grows in the queue
            self._all_taken.clear()
            await self._queue.wait(self._clock)
            self._gathered = [self._queue.take()]
            await self._gather(self._gathered, self._slots)
            self._gathered = []

    async def _gather_urgent(self) -> None:
        while True:
            await self._urgent_slot.take()
            await self._queue.wait(self._clock, urgent=True)
            while not self._all_taken.is_set():  # a batch is being gathered, which the item is added to
                await self._all_taken.wait()
                await self._queue.wait(self._clock, urgent=True)
            await self._gather([self._queue.take()], self._urgent_slot, urgent=True)

    async def _gather(self, gathered: list[Queued[Item, Result]], slots: Slots, *, urgent: bool = False) -> None:
        """Add others to the first item, and begin. `urgent`: gather urgent items only."""
        await self._linger(gathered, urgent=urgent)
        self._begin(gathered, slots)

    async def _linger(self, gathered: list[Queued[Item, Result]], *, urgent: bool) -> None:
        """Add what is queued already, and what arrives within `linger_s`, or longer: see `_lingers_on`.

        With an urgent item, wait only while others like it are about to arrive, such as those of the same transaction.
        """
        began = arrived = self._clock.monotonic()
        deadline = began + self._linger_s
        while len(gathered) < min(self.max_items, self._of_one_call()):
            left_s = deadline - self._clock.monotonic()
            if _any_urgent(gathered) and not self._more_to_come(len(gathered), True):
                left_s = 0.0
            if await self._queue.wait(self._clock, within_s=left_s, urgent=urgent):
                gathered.append(self._queue.take())
                arrived = self._clock.monotonic()
            elif self._lingers_on(gathered, began=began, arrived=arrived):
                deadline = self._clock.monotonic() + self._linger_s
            else:
                return

    def _lingers_on(self, gathered: list[Queued[Item, Result]], *, began: float, arrived: float) -> bool:
        """Whether a batch that is not full waits on, so that a backlog costs few calls. Urgent ones wait for urgent ones."""
        urgent = _any_urgent(gathered)
        until = began + URGENT_LINGER_S if urgent else min(arrived + QUIET_S, began + LONGEST_LINGER_S)
        if self._draining or self._clock.monotonic() >= until:
            return False
        return self._more_to_come(len(gathered), urgent)

    def _begin(self, gathered: list[Queued[Item, Result]], slots: Slots) -> None:
        """All submissions of equal items get the same result. Those that were cancelled meanwhile are left out."""
        futures: dict[Item, list[asyncio.Future[Result]]] = {}
        for queued in gathered:
            if not queued.result.done():
                futures.setdefault(queued.item, []).append(queued.result)
        if futures:
            slots.begin(futures, self._work, give=partial(_answer, futures))
        else:
            slots.give_back()


def _any_urgent(gathered: list[Queued[Item, Result]]) -> bool:
    return any(queued.urgent for queued in gathered)


def _answer(futures: dict[Item, "list[asyncio.Future[Result]]"], item: Item, result: Result | Exception) -> None:
    for future in futures[item]:
        if future.done():  # its handler was cancelled
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
