"""The fenced write, sized by time: how many rows one statement takes, so that their locks are held for 50 ms at most.

Called by freshen. An HNSW index makes a row's write cost a hundred times more than none, so the size is learnt.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from embedding_worker.errors import RowsRefused
from embedding_worker.rows.store import RowStore, VectorWrite

AIM_S = 0.05
MOST_ROWS = 500


def next_size(size: int, *, took_s: float, aim_s: float = AIM_S) -> int:
    """How many rows the next statement may take, after one of `size` rows took so long: at most doubled, at least 1."""
    fitting = int(size * aim_s / max(took_s, 1e-6))
    return max(1, min(fitting, size * 2, MOST_ROWS))


@dataclass(frozen=True)
class Written:
    ids: set[str]
    refused: dict[str, RowsRefused]
    """Rows that the database refuses to change: a constraint that they break, or a trigger of the application's."""


class Writer:
    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._size = 25

    async def write(self, rows: Sequence[VectorWrite]) -> Written:
        """Write all rows, in as many statements as their size asks for. See RowStore.write."""
        written = Written(set(), {})
        rest = list(rows)
        while rest:
            part, rest = rest[: self._size], rest[self._size :]
            started = time.monotonic()
            await self._write(part, written)
            self._size = next_size(len(part), took_s=time.monotonic() - started)
        return written

    async def _write(self, part: Sequence[VectorWrite], written: Written) -> None:
        """One statement; halved down to the culprit where the database refuses it for a row's sake."""
        try:
            written.ids.update(await self._store.write(part))
        except RowsRefused as exc:
            if len(part) == 1:
                written.refused[part[0].id] = exc
                return
            middle = len(part) // 2
            await self._write(part[:middle], written)
            await self._write(part[middle:], written)
