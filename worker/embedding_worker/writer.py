"""The conditional write, sized by time: how many rows one statement may hold, so that their locks last 50 ms at most.

Called by embedding.py and by the sweep. An HNSW index makes the write of a row a hundred times as expensive, so the size is
learned from how long the statements take.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from embedding_worker.clock import Clock
from embedding_worker.errors import RowsLocked, RowsRefused, StatementTimedOut, TableRefused
from embedding_worker.rows.database import Row
from embedding_worker.rows.each_row import of_each_row
from embedding_worker.rows.records import VectorWrite
from embedding_worker.rows.store import RowStore

AIM_S = 0.05
FIRST_ROWS = 25
MOST_ROWS = 500
ROWS_COMPARED = 3


def next_size(size: int, *, took_s: float, aim_s: float = AIM_S) -> int:
    """How many rows the next statement may hold, after one of `size` rows took so long: at most twice as many, at least 1."""
    fitting = int(size * aim_s / max(took_s, 1e-6))
    return max(1, min(fitting, size * 2, MOST_ROWS))


@dataclass(frozen=True)
class Written:
    """What became of rows that were to be written. A row in none was edited, deleted, or is locked by another session."""

    ids: set[str] = field(default_factory=set)
    suppressed: set[str] = field(default_factory=set)
    """Their update has changed nothing, because a trigger or a rule of the application suppresses it."""
    refused: dict[str, RowsRefused] = field(default_factory=dict)
    """Rows that the database refuses to change: they break a constraint, or a trigger of the application raises."""


class Writer:
    """Writes rows of one source."""

    def __init__(self, store: RowStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._size = FIRST_ROWS

    async def check(self) -> None:
        """Raises TableRefused if the role may not write at all any more: no call is to be paid for that."""
        try:
            await self._store.write([])
        except RowsRefused as exc:
            raise TableRefused(exc.reason, exc.message) from exc

    async def find_accepted(self, ids: Sequence[str]) -> set[str]:
        """Those of these rows whose update is not suppressed, found out without changing them. If it cannot be, all of them."""
        try:
            return await self._store.try_write(ids)
        except (RowsRefused, RowsLocked):
            return set(ids)

    async def write(self, rows: Sequence[VectorWrite]) -> Written:
        """Write all rows, in as many statements as their size asks for.

        Raises TableRefused if the database refuses every row for a reason that is not a row's own, RowsLocked and
        DatabaseUnavailable.
        """
        written = Written()
        unwritten = list(rows)
        while unwritten:
            part, unwritten = unwritten[: self._size], unwritten[self._size :]
            started = self._clock.monotonic()
            await self._write_part(part, written)
            self._size = next_size(len(part), took_s=self._clock.monotonic() - started)
        if are_refused_alike(written):
            await self._compare_with_others(written.refused)
        return written

    async def _write_part(self, part: Sequence[VectorWrite], written: Written) -> None:
        by_id = {row.id: row for row in part}

        async def write(ids: Sequence[str]) -> list[Row]:
            result = await self._store.write([by_id[row_id] for row_id in ids])
            written.ids.update(result.written)
            written.suppressed.update(result.suppressed)
            return [(row_id,) for row_id in result.written]

        failures = (await of_each_row(list(by_id), write, succeeds_for_others=self._succeeds_for_others)).failures
        # A single row that takes too long waits like a locked one: the database is slow, and that is not the row's failure.
        written.refused.update(
            {row: error for row, error in failures.items() if not isinstance(error, StatementTimedOut)}
        )

    async def _compare_with_others(self, refused: Mapping[str, RowsRefused]) -> None:
        """Raises TableRefused if the database refuses even to write back the vectors that other rows have."""
        if not await self._accepts_others(list(refused)):
            row_id, error = next(iter(refused.items()))
            raise TableRefused(error.reason, f"every row is refused: {error.message}", example=row_id)

    async def _succeeds_for_others(self, ids: Sequence[str]) -> bool:
        try:
            await self._store.write([])
        except RowsRefused:  # a right or an object is missing, whatever the rows are
            return False
        return await self._accepts_others(ids)

    async def _accepts_others(self, ids: Sequence[str]) -> bool:
        """Whether the vector that another row has can be written back; if there is no other row, that of one of these."""
        try:
            others = await self._store.rows_to_compare(except_ids=ids) or ids[:ROWS_COMPARED]
        except RowsRefused:  # not even the ids can be read
            return False
        for row_id in others:
            with suppress(RowsRefused, RowsLocked):
                if await self._store.try_write([row_id]):
                    return True
        return False


def are_refused_alike(written: Written) -> bool:
    """Whether several rows were refused for the same reason, and none was accepted."""
    reasons = {(error.sqlstate, error.constraint) for error in written.refused.values()}
    return len(written.refused) > 1 and len(reasons) == 1 and not written.ids and not written.suppressed
