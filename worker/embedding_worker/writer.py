"""The fenced write, sized by time: how many rows one statement takes, so that their locks are held for 50 ms at most.

Called by freshen. An HNSW index makes a row's write cost a hundred times more than none, so the size is learnt.
"""

import time
from collections.abc import Sequence

from embedding_worker.rows.store import FreshRow, RowStore

AIM_S = 0.05
MOST_ROWS = 500


def next_size(size: int, *, took_s: float, aim_s: float = AIM_S) -> int:
    """How many rows the next statement may take, after one of `size` rows took so long: at most doubled, at least 1."""
    fitting = int(size * aim_s / max(took_s, 1e-6))
    return max(1, min(fitting, size * 2, MOST_ROWS))


class Writer:
    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._size = 25

    async def write(self, rows: Sequence[FreshRow]) -> set[str]:
        """Write all rows, in as many statements as their size asks for. Returns the ids written (see RowStore.write)."""
        written: set[str] = set()
        rest = list(rows)
        while rest:
            part, rest = rest[: self._size], rest[self._size :]
            started = time.monotonic()
            written |= await self._store.write(part)
            self._size = next_size(len(part), took_s=time.monotonic() - started)
        return written
