"""Gathers the outcomes of rows that were not simply embedded, and has them recorded, so that no job waits for that.

Created by pipeline.py for each source; filled by the backfill, and by the operator's job runner and sweep. What cannot be
recorded is logged and forgotten.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import EmbeddingError
from embedding_worker.rows.records import LastOutcome

log = structlog.get_logger(__name__)

LINGER_S = 1.0
"""The outcomes of so long are recorded together."""
MOST_WAITING = 1_000
"""If there are more, the oldest are forgotten."""
END_WITHIN_S = 1.0

RecordAll = Callable[[Sequence[tuple[str, LastOutcome]]], Awaitable[None]]
"""Records outcomes by the ids of their rows, as RowStore.record_outcomes does."""


class OutcomeLog:
    """The outcomes of one source. Nothing is sent to the database while there are none."""

    def __init__(self, record: RecordAll, *, clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._waiting: deque[tuple[str, LastOutcome]] = deque(maxlen=MOST_WAITING)
        self._any = asyncio.Event()

    def add(self, row_id: str, outcome: LastOutcome) -> None:
        """Have this recorded soon. Returns at once."""
        self._waiting.append((row_id, outcome))
        self._any.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Record what is added until the block ends. What is left then gets one more second."""
        task = asyncio.create_task(self._run(), name="outcome log")
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
        outcomes = list(self._waiting)
        self._waiting.clear()
        try:
            await self._record(outcomes)
        except asyncio.CancelledError:  # it is not known whether they are recorded: twice the same is recorded once
            self._waiting.extendleft(reversed(outcomes))
            raise
        except EmbeddingError as exc:
            log.info("last outcomes of rows not recorded", rows=len(outcomes), message=str(exc))
        except Exception:  # a defect of ours, which must not end the task
            log.exception("last outcomes of rows not recorded by an unexpected error")
