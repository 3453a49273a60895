"""Keeps the vectors of rows that another session has locked, so that they are not paid for again. Called by embedding.py."""

from collections import OrderedDict
from datetime import datetime

from embedding_worker.clock import Clock
from embedding_worker.rows.records import VectorWrite

MOST_LOCKED_ROWS = 1_000
"""About 25 MB of vectors with 768 dimensions. Beyond it, the oldest is embedded again."""


class LockedRows:
    """The vectors of rows that another session keeps locked: they were paid for, and are written when their jobs come again."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[VectorWrite, datetime]] = OrderedDict()

    def keep(self, row: VectorWrite) -> datetime:
        """Keep a row's vector. Returns since when the row is known to be locked."""
        key = (row.id, row.content_hash)
        _, since = self._kept.pop(key, (row, self._clock.now()))
        self._kept[key] = (row, since)
        if len(self._kept) > MOST_LOCKED_ROWS:
            self._kept.popitem(last=False)
        return since

    def find(self, row_id: str, content_hash: str) -> VectorWrite | None:
        """The vector that was kept for the row with this text; None if there is none."""
        kept = self._kept.get((row_id, content_hash))
        return kept[0] if kept is not None else None

    def keeps(self, row: VectorWrite) -> bool:
        """Whether the row's vector was kept before."""
        return (row.id, row.content_hash) in self._kept

    def forget(self, row: VectorWrite) -> None:
        """The row was written."""
        self._kept.pop((row.id, row.content_hash), None)
