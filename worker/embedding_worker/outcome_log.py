"""Gathers the outcomes of rows that were not simply embedded, and has them recorded together (see later_log.py).

Created by pipeline.py for each source; filled by the backfill, and by the operator's job runner and sweep.
"""

from collections.abc import Awaitable, Callable, Sequence

from embedding_worker.clock import Clock
from embedding_worker.later_log import LaterLog
from embedding_worker.rows.records import LastOutcome

RecordAll = Callable[[Sequence[tuple[str, LastOutcome]]], Awaitable[None]]
"""Records outcomes by the ids of their rows, as RowStore.record_outcomes does."""


class OutcomeLog(LaterLog[tuple[str, LastOutcome]]):
    """The outcomes of one source."""

    def __init__(self, record: RecordAll, *, clock: Clock) -> None:
        super().__init__(record, what="last outcomes of rows", again=True, clock=clock)

    def add(self, row_id: str, outcome: LastOutcome) -> None:
        """Have this recorded soon. Returns at once."""
        self.add_item((row_id, outcome))
