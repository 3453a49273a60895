"""How many rows a write takes at once, so that their locks are held for a moment only."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from embedding_worker.errors import DatabaseUnavailable, RowsLocked, RowsRefused, TableRefused
from embedding_worker.providers.embedder import Vector
from embedding_worker.rows.records import VectorWrite, WriteResult
from embedding_worker.rows.store import RowStore
from embedding_worker.writer import MOST_ROWS, WRITES_AT_ONCE, Writer, next_size
from tests.support.fake_clock import FakeClock


@pytest.mark.parametrize(
    ("size", "took_s", "following"),
    [
        (100, 0.05, 100),  # exactly as long as it may take
        (100, 0.1, 50),
        (100, 0.04, 125),
        (100, 0.001, 200),  # never more than doubled: one fast statement proves little
        (100, 0.0, 200),
        (100, 5.0, 1),
        (1, 5.0, 1),
        (1, 0.0001, 2),
        (MOST_ROWS, 0.001, MOST_ROWS),
    ],
)
def test_the_next_size_is_what_fits_into_the_time_it_may_take(size: int, took_s: float, following: int) -> None:
    assert next_size(size, took_s=took_s, aim_s=0.05) == following


def test_the_size_settles_where_a_statement_takes_as_long_as_it_may() -> None:
    """At 2 ms for a row and 5 ms for a statement."""
    size = 1
    for _ in range(20):
        size = next_size(size, took_s=0.005 + 0.002 * size, aim_s=0.05)
    assert size in (22, 23)


class FakeStore:
    """Writes every statement that holds no refused row, and records what it was asked for."""

    def __init__(self, *, refused: Sequence[str] = (), locked: Sequence[str] = ()) -> None:
        self.asked: list[list[str]] = []
        self._refused = set(refused)
        self._locked = set(locked)
        self.suppressed: set[str] = set()
        self.others: list[str] = []
        """Rows that are not written here."""
        self.no_rights = False
        self.tried: list[str] = []
        self.tried_with: Vector | None = None
        self.sqlstate = "P0001"

    async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
        ids = [row.id for row in rows]
        self.asked.append(ids)
        if self._refused & set(ids):
            raise RowsRefused(
                "DatabaseRefused", f"one of {ids}", sqlstate=self.sqlstate, is_of_the_table=self.no_rights
            )
        written = set(ids) - self._locked
        return WriteResult(written - self.suppressed, written & self.suppressed)

    async def rows_to_compare(self, *, except_ids: Sequence[str]) -> list[str]:
        return [row for row in self.others if row not in except_ids]

    async def try_write(self, ids: Sequence[str], vector: Vector | None = None) -> WriteResult:
        self.tried += ids
        self.tried_with = vector
        if self._refused & set(ids):
            raise RowsRefused("DatabaseRefused", "refused", sqlstate=self.sqlstate, is_of_the_table=self.no_rights)
        tried = set(ids) - self._locked
        return WriteResult(tried - self.suppressed, tried & self.suppressed)


def rows(count: int) -> list[VectorWrite]:
    return [VectorWrite(str(n), f"hash {n}", [1.0]) for n in range(count)]


def writer(store: FakeStore) -> Writer:
    return Writer(cast(RowStore, store), clock=FakeClock())


async def test_every_row_is_written_once_and_in_order() -> None:
    store = FakeStore()
    written = await writer(store).write(rows(200))
    assert [row_id for part in store.asked for row_id in part] == [str(n) for n in range(200)]
    assert written.ids == {str(n) for n in range(200)}
    assert written.refused == {}


async def test_a_row_of_a_job_is_written_while_writes_of_a_backfill_wait_for_their_turns() -> None:
    class Slow(FakeStore):
        async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
            result = await super().write(rows)
            if rows[0].content_hash != "of a job":
                await asyncio.Event().wait()
            return result

    store = Slow()
    same = writer(store)
    backfill = [asyncio.create_task(same.write(rows(5), of_jobs=False)) for _ in range(3 * WRITES_AT_ONCE)]
    written = await asyncio.wait_for(same.write([VectorWrite("edited", "of a job", [1.0])]), timeout=30)
    assert written.ids == {"edited"}
    assert len(store.asked) == WRITES_AT_ONCE + 1
    for task in backfill:
        task.cancel()


async def test_the_learned_size_is_kept() -> None:
    store = FakeStore()
    same = writer(store)
    await same.write(rows(500))
    sizes = [len(part) for part in store.asked]
    assert sizes[0] == 25
    assert max(sizes) > 25  # nothing took any time
    await same.write(rows(500))
    assert len(store.asked[len(sizes)]) > 25


async def test_a_row_that_is_not_written_is_in_neither() -> None:
    written = await writer(FakeStore(locked=["3"])).write(rows(5))
    assert written.ids == {"0", "1", "2", "4"}
    assert written.refused == {}


async def test_refused_rows_are_found_and_the_others_written() -> None:
    store = FakeStore(refused=["3", "17"])
    written = await writer(store).write(rows(25))
    assert written.ids == {str(n) for n in range(25)} - {"3", "17"}
    assert set(written.refused) == {"3", "17"}
    assert written.refused["3"].message == "one of ['3']"
    assert len(store.asked) < 25


async def test_other_errors_are_raised_to_the_caller() -> None:
    class Away(FakeStore):
        async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
            raise DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        await writer(Away()).write(rows(5))


async def test_without_rows_no_statement_is_run() -> None:
    store = FakeStore()
    assert (await writer(store).write([])).ids == set()
    assert store.asked == []


async def test_a_row_whose_update_is_suppressed_is_told_apart_from_a_locked_one() -> None:
    store = FakeStore(locked=["1"])
    store.suppressed = {"2"}
    written = await writer(store).write(rows(4))
    assert (written.ids, written.suppressed, written.refused) == ({"0", "3"}, {"2"}, {})


async def test_where_a_right_is_missing_no_row_is_to_blame() -> None:
    store = FakeStore(refused=[str(n) for n in range(25)])
    store.no_rights = True
    with pytest.raises(TableRefused) as refused:
        await writer(store).write(rows(25))
    assert refused.value.example in {str(n) for n in range(25)}
    assert len(store.asked) <= 4


async def test_rows_that_are_all_refused_alike_are_not_to_blame_if_others_are_refused_too() -> None:
    store = FakeStore(refused=["0", "1", "2", "old"])
    store.others = ["old"]
    with pytest.raises(TableRefused, match="every row is refused"):
        await writer(store).write(rows(3))


async def test_rows_that_are_all_refused_alike_are_to_blame_if_another_is_accepted() -> None:
    store = FakeStore(refused=["0", "1", "2", "old"])
    store.others = ["old", "good"]
    assert set((await writer(store).write(rows(3))).refused) == {"0", "1", "2"}
    assert store.tried == ["old", "good"]


async def test_a_single_row_that_is_refused_is_its_own_failure() -> None:
    store = FakeStore(refused=["0"])
    assert set((await writer(store).write(rows(1))).refused) == {"0"}
    assert store.tried == []


async def test_a_right_to_write_that_is_lost_is_found_out_before_anything_is_paid() -> None:
    class Revoked(FakeStore):
        async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
            assert not rows
            raise RowsRefused("DatabaseRefused", "permission denied", sqlstate="42501", is_of_the_table=True)

    with pytest.raises(TableRefused, match="permission denied"):
        await writer(Revoked()).check()


@pytest.mark.parametrize(("sqlstate", "tried_with"), [("P0001", [1.0, 2.0]), ("23514", [2.0, 1.0])])
async def test_others_are_tried_with_the_vector_or_another_one_where_a_constraint_may_forbid_it(
    sqlstate: str, tried_with: list[float]
) -> None:
    store = FakeStore(refused=["0", "1"])
    store.sqlstate, store.others = sqlstate, ["good"]
    await writer(store).write([VectorWrite(str(n), "hash", [1.0, 2.0]) for n in range(2)])
    assert store.tried_with == tried_with


async def test_others_whose_update_is_suppressed_do_not_show_that_every_row_is_refused() -> None:
    store = FakeStore(refused=["0", "1"])
    store.others, store.suppressed = ["old"], {"old"}
    assert set((await writer(store).write(rows(2))).refused) == {"0", "1"}


async def test_a_row_whose_trigger_waits_for_a_lock_delays_no_other() -> None:
    class Locked(FakeStore):
        async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
            if "7" in {row.id for row in rows}:
                raise RowsLocked("LockNotAvailable")
            return await super().write(rows)

    written = await writer(Locked()).write(rows(20))
    assert (written.ids, written.refused) == ({str(n) for n in range(20)} - {"7"}, {})


async def test_after_a_refused_row_others_are_tried_before_they_are_paid_for_until_ten_batches_were_accepted() -> None:
    store = FakeStore(refused=["0"])
    same = writer(store)
    await same.write(rows(2))
    assert same.rehearses
    tried = await same.rehearse(["0", "1"])
    assert (tried.ids, set(tried.refused)) == ({"1"}, {"0"})
    for _ in range(10):
        assert same.rehearses
        await same.rehearse(["1"])
    assert not same.rehearses


async def test_a_locked_row_hides_no_suppressed_one_from_a_rehearsal() -> None:
    store = FakeStore(locked=["1"])
    store.suppressed = {"2"}
    tried = await writer(store).rehearse(["0", "1", "2"])
    assert (tried.ids, tried.suppressed, tried.refused) == ({"0"}, {"2"}, {})


async def test_work_goes_on_when_another_row_is_accepted_and_then_the_rows_are_to_blame() -> None:
    store = FakeStore(refused=["0", "1", "old"])
    store.others = ["old"]
    same = writer(store)
    with pytest.raises(RowsRefused):
        await same.find_accepted(TableRefused("DatabaseRefused", "refused", example="0", vector=[1.0]))
    store.others = ["old", "good"]
    await same.find_accepted(TableRefused("DatabaseRefused", "refused", example="0", vector=[1.0]))
    assert same.rehearses
    store.others = []
    assert set((await same.write(rows(2))).refused) == {"0", "1"}


async def test_where_a_right_is_missing_no_other_row_is_tried() -> None:
    store = FakeStore(refused=["0"])
    store.no_rights, store.others = True, ["good"]
    with pytest.raises(RowsRefused):
        await writer(store).find_accepted(TableRefused("DatabaseRefused", "refused", example="0"))
    assert store.tried == ["0"]


async def test_a_single_row_is_not_to_blame_if_others_are_refused_too() -> None:
    store = FakeStore(refused=["0", "old"])
    store.others = ["old"]
    with pytest.raises(TableRefused):
        await writer(store).write(rows(1))


async def test_rows_that_are_all_refused_in_a_rehearsal_are_compared_with_others_too() -> None:
    store = FakeStore(refused=["0", "1", "old"])
    store.others = ["old"]
    with pytest.raises(TableRefused):
        await writer(store).rehearse(["0", "1"])
