"""What is due comes in a fair order, each row once, and never more than was asked for."""

import pytest

from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle, run, vector_write


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    return await keep(text="name")


def add(application: Application, count: int) -> None:
    application.run("INSERT INTO businesses (name) SELECT 'name ' || i FROM generate_series(1, %s) i", count)


async def ids(keeper: Keeper, limit: int, leave_out: tuple[str, ...] = ()) -> list[int]:
    return [int(row.id) for row in await keeper.sweep(limit=limit, leave_out=leave_out)]


async def test_one_half_are_the_newest_edits_and_the_other_the_oldest_marks(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    add(businesses, 100)
    assert sorted(await ids(kept[0], 10)) == [1, 2, 3, 4, 5, 96, 97, 98, 99, 100]
    assert sorted(await ids(kept[0], 3)) == [1, 99, 100]
    assert await ids(kept[0], 1) == [100]
    assert await ids(kept[0], 0) == []


async def test_a_backfill_leaves_half_of_it_to_new_edits(businesses: Application, keep: Keep) -> None:
    add(businesses, 100)
    keeper, _ = await keep()
    await keeper.audit()
    backfill = await keeper.sweep(limit=10)
    assert [row.edited for row in backfill] == [False] * 10
    in_the_backfill = {row.id for row in backfill}
    businesses.run(
        "UPDATE businesses SET name = 'edited' WHERE id > 40 AND id <> ALL (%s::bigint[])", list(in_the_backfill)
    )
    rows = await keeper.sweep(limit=10)
    assert [row.edited for row in rows] == [True] * 5 + [False] * 5
    assert {row.id for row in rows[5:]} < in_the_backfill


async def test_each_row_comes_once_however_often_it_was_edited(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    add(businesses, 3)
    for n in range(20):
        businesses.run("UPDATE businesses SET name = %s", f"edit {n}")
    rows = await kept[0].sweep(limit=100)
    assert sorted(row.id for row in rows) == ["1", "2", "3"]
    marks = businesses.run(f"SELECT id::text, max(seq) FROM {kept[0].statements.marks} GROUP BY id")
    assert {row.id: row.newest_mark for row in rows} == dict(marks)


async def test_each_row_comes_with_the_age_of_its_newest_mark(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    add(businesses, 2)
    marks = f'embedding_operator."{oracle.config.at.bookkeeping_name}_marks"'
    businesses.run(f"UPDATE {marks} SET since = now() - interval '1 hour'")
    businesses.run("UPDATE businesses SET name = 'again' WHERE id = 2")
    ages = {row.id: row.marked_s_ago for row in await keeper.sweep()}
    assert 3_600 <= ages["1"] < 3_700
    assert 0 <= ages["2"] < 100


async def test_rows_that_are_in_flight_are_left_out(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    add(businesses, 20)
    in_flight = tuple(str(n) for n in range(2, 20))
    assert sorted(await ids(kept[0], 10, in_flight)) == [1, 20]
    assert await ids(kept[0], 10, (*in_flight, "1", "20")) == []


async def test_a_row_is_left_out_whatever_its_text_may_hold(application: Application, keep: Keep) -> None:
    application.run("CREATE TABLE businesses (id text PRIMARY KEY, name text, embedding vector(3))")
    keeper, _ = await keep()
    odd = ["a,b", '{"', "NULL", "", "'", "\\"]
    for row_id in odd:
        application.run("INSERT INTO businesses VALUES (%s, 'named')", row_id)
    assert await keeper.sweep(leave_out=tuple(odd)) == []
    assert [row.id for row in await keeper.sweep(leave_out=tuple(odd[:-1]))] == odd[-1:]


async def test_a_due_row_says_whether_it_is_up_to_date_or_gone_or_blank(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    add(businesses, 4)
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = name || '!'")
    businesses.run("UPDATE businesses SET name = rtrim(name, '!') WHERE id = 1")
    businesses.run("DELETE FROM businesses WHERE id = 2")
    businesses.run("UPDATE businesses SET name = ' ' WHERE id = 3")
    rows = {row.id: row for row in await keeper.sweep()}
    assert {row.id for row in rows.values() if row.up_to_date} == {"1"}
    assert {row.id for row in rows.values() if row.gone} == {"2"}
    assert {row.id for row in rows.values() if row.blank} == {"3"}
    assert rows["2"].content_hash is None
    assert rows["4"].content_hash == vector_write("4", "name 4!").content_hash


async def test_a_row_that_became_blank_and_has_no_vector_any_more_is_up_to_date(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    businesses.run("INSERT INTO businesses (name) VALUES ('')")
    await kept[0].keep()
    businesses.run("UPDATE businesses SET name = 'x'; UPDATE businesses SET name = ''")
    (row,) = await kept[0].sweep()
    assert (row.up_to_date, row.blank) == (True, True)


async def test_an_edit_that_is_not_committed_is_not_due_yet(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    with businesses.transaction() as connection:
        run(connection, "INSERT INTO businesses (name) VALUES ('new')")
        assert await kept[0].sweep() == []
    assert await ids(kept[0], 10) == [1]


async def test_newer_marks_are_those_since_the_one_that_was_known(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    add(businesses, 4)
    known = {row.id: row.newest_mark for row in await keeper.sweep()}
    assert await keeper.store.newer_marks(known) == []
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 2")
    businesses.run("UPDATE businesses SET name = 'edited again' WHERE id = 2")
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 3")
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 4; DELETE FROM businesses WHERE id = 4")
    newer = {mark.id: mark for mark in await keeper.store.newer_marks(known)}
    assert set(newer) == {"2", "3", "4"}
    assert newer["2"].content_hash == vector_write("2", "edited again").content_hash
    assert newer["4"].content_hash is None  # it is gone
    again = known | {mark.id: mark.newest_mark for mark in newer.values()}
    assert await keeper.store.newer_marks(again) == []
    assert await keeper.store.newer_marks({}) == []


async def test_what_is_read_is_the_present_and_what_is_gone_is_missing(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    add(businesses, 3)
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 2; DELETE FROM businesses WHERE id = 3")
    rows = await keeper.read(["1", "2", "3", "4"])
    assert {row.id: (row.text, row.up_to_date) for row in rows.values()} == {
        "1": ("name 1", True),
        "2": ("edited", False),
    }
