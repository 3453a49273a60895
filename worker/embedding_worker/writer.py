"""The conditional write, sized by time: how many rows one statement may hold, so that their locks last 50 ms at most.

Called by embedding.py and by the sweep. An HNSW index makes the write of a row a hundred times as expensive, so the size is
learned from how long the statements take.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from embedding_worker.batching.bisect import FailedAlone, bisect
from embedding_worker.clock import Clock
from embedding_worker.errors import RowsRefused
from embedding_worker.rows.store import RowStore, VectorWrite

AIM_S = 0.05
FIRST_ROWS = 25
MOST_ROWS = 500


def next_size(size: int, *, took_s: float, aim_s: float = AIM_S) -> int:
    """How many rows the next statement may hold, after one of `size` rows took so long: at most twice as many, at least 1."""
    fitting = int(size * aim_s / max(took_s, 1e-6))
    return max(1, min(fitting, size * 2, MOST_ROWS))


@dataclass(frozen=True)
class Written:
    """What became of rows that were to be written. A row in neither was edited, deleted, or is locked by another session."""

    ids: set[str]
    refused: dict[str, RowsRefused]
    """Rows that the database refuses to change: they break a constraint, or a trigger of the application raises."""


class Writer:
    """Writes rows of one source."""

    def __init__(self, store: RowStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._size = FIRST_ROWS

    async def write(self, rows: Sequence[VectorWrite]) -> Written:
        """Write all rows, in as many statements as their size asks for. Raises as RowStore.write does, but RowsRefused."""
        written = Written(set(), {})
        unwritten = list(rows)
        while unwritten:
            part, unwritten = unwritten[: self._size], unwritten[self._size :]
            started = self._clock.monotonic()
            await self._write_part(part, written)
            self._size = next_size(len(part), took_s=self._clock.monotonic() - started)
        return written

    async def _write_part(self, part: Sequence[VectorWrite], written: Written) -> None:
        async for outcomes in bisect(part, self._try_to_write, on=RowsRefused):
            for row, outcome in outcomes:
                if isinstance(outcome, FailedAlone):
                    written.refused[row.id] = outcome.error
                elif outcome is True:
                    written.ids.add(row.id)

    async def _try_to_write(self, rows: Sequence[VectorWrite]) -> list[bool]:
        """One statement. Returns for each row whether it was written."""
        ids = await self._store.write(rows)
        return [row.id in ids for row in rows]
