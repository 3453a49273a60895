"""Marks of rows that are up to date, or gone, are deleted without a job, a call or a write to the row."""

import asyncio

import pytest

from tests.integration.rows.conftest import Keep
from tests.support.gate import GATED, closed_gate, wait_for_statement_at_gate
from tests.support.kept_rows import Application, Keeper, Oracle, run

ALL = ["1", "2", "3"]


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    """Businesses 1 to 3, fresh."""
    keeper, oracle = await keep(text="name")
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two'), ('three')")
    await keeper.keep()
    return keeper, oracle


async def test_an_edit_that_was_undone_is_cleared_and_the_row_is_not_touched(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = name || '!'")
    businesses.run("UPDATE businesses SET name = rtrim(name, '!')")
    before = businesses.run("SELECT id, xmin::text FROM businesses ORDER BY id")
    await keeper.store.clear(ALL)
    assert oracle.marks() == []
    assert businesses.run("SELECT id, xmin::text FROM businesses ORDER BY id") == before


async def test_marks_of_deleted_rows_are_cleared(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = 'edited'; DELETE FROM businesses WHERE id = 2")
    await keeper.store.clear(ALL)
    assert oracle.marks() == ["1", "3"]


async def test_marks_of_rows_that_are_not_up_to_date_stay(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 1")
    businesses.run("UPDATE businesses SET name = '' WHERE id = 2")
    businesses.run("UPDATE businesses SET name = name || '!', embedding = NULL WHERE id = 3")
    businesses.run("UPDATE businesses SET name = rtrim(name, '!') WHERE id = 3")
    await keeper.store.clear(ALL)
    assert oracle.marks() == ["1", "2", "3", "3"]


async def test_marks_of_rows_that_were_not_named_stay(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    businesses.run("DELETE FROM businesses; INSERT INTO businesses VALUES (4, 'new'); DELETE FROM businesses")
    await keeper.store.clear(["1"])
    assert oracle.marks() == ["4"]
    await keeper.store.clear([])
    assert oracle.marks() == ["4"]


EDIT_AND_BACK = "UPDATE businesses SET name = name || '!'; UPDATE businesses SET name = rtrim(name, '!')"


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        (EDIT_AND_BACK, "UPDATE businesses SET name = 'edited' WHERE id = 2"),
        (EDIT_AND_BACK, "DELETE FROM businesses WHERE id = 2; INSERT INTO businesses VALUES (2, 'reinserted')"),
        (f"{EDIT_AND_BACK}; DELETE FROM businesses WHERE id = 2", "INSERT INTO businesses VALUES (2, 'reinserted')"),
    ],
    ids=["edited", "deleted and reinserted", "reinserted"],
)
async def test_an_edit_that_commits_while_marks_are_cleared_keeps_its_own(
    businesses: Application, keep: Keep, before: str, meanwhile: str
) -> None:
    businesses.run(GATED)
    keeper, oracle = await keep(text="gated(name)")
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two')")
    await keeper.keep()
    businesses.run(before)
    fingerprint = keeper.statements.config.fingerprint
    with closed_gate(businesses) as open_gate:
        async with keeper.database.transaction(
            search_path=["public"], lock_timeout="60s", statement_timeout_s=60
        ) as transaction:
            clearing = asyncio.create_task(transaction.fetch(keeper.statements.clear, ["1", "2"], fingerprint))
            await wait_for_statement_at_gate(businesses)  # at least at business 1, which stays
            businesses.run(meanwhile)
            open_gate()
            await clearing
    assert oracle.marks() == ["2"]
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_marks_that_another_replica_is_clearing_are_left_to_it(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = 'edited'; DELETE FROM businesses")
    fingerprint = keeper.statements.config.fingerprint
    async with keeper.database.transaction() as transaction:
        await transaction.fetch(keeper.statements.clear, ["1", "2"], fingerprint)
        await keeper.store.clear(ALL)
        assert oracle.marks() == ["1", "2"]
        await transaction.undo()
    assert oracle.marks() == ["1", "2"]


async def test_an_edit_that_is_not_committed_yet_keeps_its_mark_and_the_old_one_goes(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = 'two!' WHERE id = 2; UPDATE businesses SET name = 'two' WHERE id = 2")
    with businesses.transaction() as connection:
        run(connection, "UPDATE businesses SET name = 'edited' WHERE id = 2")
        await keeper.store.clear(["2"])
        assert oracle.marks() == []
    assert oracle.marks() == ["2"]
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])
