"""The conditional write, sized by time: how many rows one statement may hold, so that their locks last 50 ms at most.

Called by embedding.py. The size is learned from how long the statements take, because an HNSW index makes the write of a row a
hundred times as expensive.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from embedding_worker.clock import Clock
from embedding_worker.errors import RowsLocked, RowsRefused, TableRefused
from embedding_worker.providers.embedder import Vector
from embedding_worker.refused_rows import Written, are_refused_alike, as_refusal, own_failures
from embedding_worker.rows.database import Row
from embedding_worker.rows.each_row import of_each_row, separate
from embedding_worker.rows.records import VectorWrite, WriteResult
from embedding_worker.rows.store import RowStore

AIM_S = 0.05
FIRST_ROWS = 25
MOST_ROWS = 500
CHECKED_FOR_S = 1.0
"""After a row was written, the right to write is not checked for so long."""
WRITES_AT_ONCE = 4
"""More statements would only slow one another down, each holding its locks for longer, and leave no connection to the sweep."""
WRITES_OF_JOBS_AT_ONCE = 2
"""Those of jobs do not queue behind those of a backfill, of which tens may wait."""
ROWS_COMPARED = 3
INTEGRITY = "23"
"""The class of SQLSTATEs of constraints."""
REHEARSALS = 10
"""So many batches are tried before they are paid for, after a row was refused or its update suppressed."""


def next_size(size: int, *, took_s: float, aim_s: float = AIM_S, least: int = 1, most: int = MOST_ROWS) -> int:
    """How many rows the next statement may hold, after one of `size` rows took so long: at most twice as many."""
    fitting = int(size * aim_s / max(took_s, 1e-6))
    return max(least, min(fitting, size * 2, most))


class Writer:
    """Writes rows of one source."""

    def __init__(self, store: RowStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._size = FIRST_ROWS
        self._turns = asyncio.Semaphore(WRITES_AT_ONCE)
        self._turns_of_jobs = asyncio.Semaphore(WRITES_OF_JOBS_AT_ONCE)
        self._vector: Vector | None = None
        """The last one that was to be written: what rows are tried with."""
        self._rehearsals = 0
        self._wrote_at = float("-inf")
        self._compares = True

    @property
    def rehearses(self) -> bool:
        """Whether rows are tried before they are paid for, because such rows were refused a short time ago."""
        return self._rehearsals > 0

    def expect_refusals(self) -> None:
        """Some rows are accepted and others are not: try rows before they are paid for, and blame the rows."""
        self._rehearsals = REHEARSALS
        self._compares = False

    async def check(self) -> None:
        """Raises TableRefused if the role may not write at all any more: no call is to be paid for that."""
        if self._clock.monotonic() - self._wrote_at < CHECKED_FOR_S:
            return
        try:
            await self._store.write([])
        except RowsRefused as exc:
            raise TableRefused(exc.reason, exc.message) from exc

    async def rehearse(self, ids: Sequence[str]) -> Written:
        """Try a write of these rows, and roll back. What is in no set of the result is locked, or gone.

        Raises as `write` does.
        """
        written = Written()

        async def attempt(part: Sequence[str]) -> list[Row]:
            with as_refusal():
                return _recorded(written, await self._store.try_write(part, self._vector))

        for start in range(0, len(ids), self._size):
            failures = (await separate(list(ids[start : start + self._size]), attempt)).failures
            written.refused.update(own_failures(failures))
        if written.suppressed or written.refused:
            self._rehearsals = REHEARSALS
        elif self._rehearsals > 0:
            self._rehearsals -= 1
            self._compares |= self._rehearsals == 0
        await self._compare_if_alike(written)
        return written

    async def find_accepted(self, refusal: TableRefused) -> None:
        """Look for a row that is accepted after a refusal of all rows. Raises RowsRefused if there is none.

        If the refused row is still refused, and another one is accepted, refusals are expected from then on.
        """
        self._vector = refusal.vector
        self._rehearsals = REHEARSALS
        if refusal.example is None:
            return
        error = await self._refusal_of(refusal.example)
        if error is None:
            return
        if error.is_of_the_table or not await self._accepts_others([refusal.example]):
            raise error
        self.expect_refusals()

    async def _refusal_of(self, row_id: str) -> RowsRefused | None:
        try:
            await self._store.try_write([row_id], self._vector)
        except RowsRefused as exc:
            return exc
        return None

    async def write(self, rows: Sequence[VectorWrite], *, of_jobs: bool = True) -> Written:
        """Write all rows, in as many statements as their size asks for. `of_jobs` is false for the rows of a backfill.

        Raises TableRefused if the database refuses every row for a reason that is not a row's own, RowsLocked and
        DatabaseUnavailable.
        """
        written = Written()
        unwritten = list(rows)
        while unwritten:
            async with self._turns_of_jobs if of_jobs else self._turns:
                part, unwritten = unwritten[: self._size], unwritten[self._size :]
                took_s = await self._write_part(part, written)
            self._size = next_size(len(part), took_s=took_s)
        if written.suppressed or written.refused:
            self._rehearsals = REHEARSALS
        await self._compare_if_alike(written)
        return written

    async def _write_part(self, part: Sequence[VectorWrite], written: Written) -> float:
        """Returns how long the database has needed for the longest statement, as far as it says so, or else the whole time."""
        started, longest_s = self._clock.monotonic(), 0.0
        by_id = {row.id: row for row in part}
        self._vector = next((row.vector for row in part if row.vector is not None), self._vector)

        async def write(ids: Sequence[str]) -> list[Row]:
            nonlocal longest_s
            with as_refusal():
                result = await self._store.write([by_id[row_id] for row_id in ids])
            longest_s = max(longest_s, result.took_s or 0.0)
            return _recorded(written, result)

        failures = (await of_each_row(list(by_id), write, succeeds_for_others=self._succeeds_for_others)).failures
        written.refused.update(own_failures(failures))
        now = self._clock.monotonic()
        if len(failures) < len(part):
            self._wrote_at = now
        return longest_s or now - started

    async def _compare_if_alike(self, written: Written) -> None:
        """Raises TableRefused if all rows were refused alike, and the database refuses the same vector for other rows too."""
        if not self._compares or not are_refused_alike(written):
            return
        row_id, error = next(iter(written.refused.items()))
        if error.sqlstate.startswith(INTEGRITY) and self._vector is not None:
            self._vector = list(reversed(self._vector))  # a constraint may forbid this very vector
        if not await self._accepts_others(list(written.refused)):
            message = f"every row is refused: {error.message}"
            raise TableRefused(error.reason, message, example=row_id, vector=self._vector)

    async def _succeeds_for_others(self, ids: Sequence[str]) -> bool:
        try:
            await self._store.write([])
        except RowsRefused:  # a right or an object is missing, whatever the rows are
            return False
        return await self._accepts_others(ids)

    async def _accepts_others(self, ids: Sequence[str]) -> bool:
        """Whether other rows are not refused too; if there is no other row, some of these, if they are several.

        A row whose update is suppressed, or which is locked or gone, shows nothing.
        """
        try:
            others = await self._store.rows_to_compare(except_ids=ids) or (ids[:ROWS_COMPARED] if len(ids) > 1 else [])
        except RowsRefused:  # not even the ids can be read
            return False
        any_refused = False
        for row_id in others:
            with suppress(RowsLocked):
                try:
                    if (await self._store.try_write([row_id], self._vector)).written:
                        return True
                except RowsRefused:
                    any_refused = True
        return not any_refused


def _recorded(written: Written, result: WriteResult) -> list[Row]:
    """Add what a statement has written or found suppressed. Returns the ids written, as of_each_row takes them."""
    written.ids.update(result.written)
    written.suppressed.update(result.suppressed)
    return [(row_id,) for row_id in result.written]
