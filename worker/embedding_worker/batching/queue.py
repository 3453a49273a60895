"""The queue of a batcher: urgent items first. Called by batcher.py."""

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import Generic

from embedding_worker.batching.batch import Item, Result
from embedding_worker.clock import Clock


@dataclass(frozen=True)
class Queued(Generic[Item, Result]):
    item: Item
    result: "asyncio.Future[Result]"
    urgent: bool = False


class ItemQueue(Generic[Item, Result]):
    """Urgent items first, and otherwise in the order of arrival. A queue of tens of thousands costs no more for each item,
    except for `hurry`.
    """

    def __init__(self) -> None:
        self._urgent: deque[Queued[Item, Result]] = deque()
        self._others: deque[Queued[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._urgent_arrived = asyncio.Event()

    def put(self, queued: Queued[Item, Result]) -> None:
        (self._urgent if queued.urgent else self._others).append(queued)
        self._arrived.set()
        if queued.urgent:
            self._urgent_arrived.set()

    def hurry(self, item: Item) -> None:
        """Make this item urgent, if it is in the queue and is not yet: it then goes before the others."""
        for queued in [queued for queued in self._others if queued.item == item]:
            self._others.remove(queued)
            self.put(replace(queued, urgent=True))

    def is_empty(self) -> bool:
        return not self._urgent and not self._others

    def take(self) -> Queued[Item, Result]:
        """The next item. Raises IndexError if there is none."""
        return (self._urgent or self._others).popleft()

    async def wait(self, clock: Clock, *, within_s: float | None = None, urgent: bool = False) -> bool:
        """Wait until there is an item, or an urgent one. Returns whether there is one."""
        arrived = self._urgent_arrived if urgent else self._arrived
        while not self._urgent and (urgent or not self._others):
            arrived.clear()
            if within_s is None:
                await arrived.wait()
            elif within_s <= 0 or not await clock.wait_for(arrived, within_s=within_s):
                return False
        return True
