"""Gathers what is to be recorded in the database soon, and has it recorded together, so that no call and no job waits for that.

The base of outcome_log.py and usage_log.py. What cannot be recorded is logged and forgotten.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import EmbeddingError, RowsLocked

log = structlog.get_logger(__name__)

LINGER_S = 1.0
"""What is added within so long is recorded together."""
MOST_WAITING = 1_000
"""If there is more, the oldest is forgotten."""
END_WITHIN_S = 1.0

Item = TypeVar("Item")


class LaterLog(Generic[Item]):
    """Nothing is sent to the database while there is nothing to record."""

    def __init__(
        self, record: Callable[[Sequence[Item]], Awaitable[None]], *, what: str, again: bool, clock: Clock
    ) -> None:
        """`what` is recorded, in the log. `again`: whether twice the same is recorded once."""
        self._record = record
        self._what = what
        self._again = again
        self._clock = clock
        self._waiting: deque[Item] = deque(maxlen=MOST_WAITING)
        self._any = asyncio.Event()

    def add_item(self, item: Item) -> None:
        """Have this recorded soon. Returns at once."""
        self._waiting.append(item)
        self._any.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Record what is added until the block ends. What is left then gets one more second."""
        task = asyncio.create_task(self._run(), name=self._what)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN_S):
                    await self._record_waiting()

    async def _run(self) -> None:
        while True:
            await self._any.wait()
            await self._clock.sleep(LINGER_S)
            await self._record_waiting()

    async def _record_waiting(self) -> None:
        self._any.clear()
        if not self._waiting:
            return
        items = list(self._waiting)
        self._waiting.clear()
        try:
            await self._record(items)
        except asyncio.CancelledError:  # it is not known whether they are recorded
            if self._again:
                self._waiting.extendleft(reversed(items))
            raise
        except RowsLocked:  # nothing is recorded: another session holds the line for longer than a statement waits
            self._waiting.extendleft(reversed(items))
            self._any.set()
        except EmbeddingError as exc:
            log.info(f"{self._what} not recorded", items=len(items), message=str(exc))
        except Exception:  # a defect of ours, which must not end the task
            log.exception(f"{self._what} not recorded by an unexpected error")
