"""The application never waits for the operator, and the operator gives up a lock that it can't get within a moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from embedding_worker.errors import RowsLocked
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle, run, vector_write

AT_ONCE = "50ms"


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    """Rows 1 to 3 fresh, with a mark each all the same; 4 to 6 due."""
    keeper, oracle = await keep()
    businesses.run("INSERT INTO businesses (name) SELECT 'name ' || i FROM generate_series(1, 3) i")
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = name || '!'; UPDATE businesses SET name = rtrim(name, '!')")
    businesses.run("INSERT INTO businesses (name) SELECT 'name ' || i FROM generate_series(4, 6) i")
    return keeper, oracle


@asynccontextmanager
async def held_open(keeper: Keeper, statement: str) -> AsyncIterator[None]:
    """One of the store's statements, done and not committed."""
    statements, fingerprint = keeper.statements, keeper.statements.config.fingerprint
    ids = [str(n) for n in range(1, 7)]
    fresh = [vector_write(str(n), f"name {n}") for n in (4, 5)]
    vectors = [f"[{','.join(map(str, row.vector or ()))}]" for row in fresh]
    sql, parameters = {
        "pick": (statements.pick, ([], 10, 10)),
        "look": (statements.look, (ids, fingerprint)),
        "newest marks": (statements.newest_marks, (ids, [0] * 6)),
        "read": (statements.read, (ids, fingerprint, 100)),
        "clear": (statements.clear, (ids, fingerprint)),
        "audit": (statements.audit, (None, 100, fingerprint)),
        "orphans": (statements.orphans, (None, None, 100)),
        "counts": (statements.counts, ([],)),
        "write": (
            statements.write,
            ([row.id for row in fresh], [row.content_hash for row in fresh], vectors, fingerprint),
        ),
    }[statement]
    async with keeper.database.transaction(search_path=["public"]) as transaction:
        found = await transaction.fetch(sql, *parameters)
        if statement == "write":
            assert len(found) == 2
        yield
        await transaction.undo()


def written_at_once(application: Application, write: str) -> None:
    """Raises LockNotAvailable where the application had to wait. Nothing stays."""
    with application.transaction() as connection:
        run(connection, f"SET lock_timeout = '{AT_ONCE}'")
        run(connection, write)
        connection.rollback()


@pytest.mark.parametrize("statement", ["pick", "look", "newest marks", "read", "clear", "audit", "orphans", "counts"])
async def test_no_statement_of_the_operator_keeps_an_application_waiting(
    businesses: Application, kept: tuple[Keeper, Oracle], statement: str
) -> None:
    async with held_open(kept[0], statement):
        for write in (
            "INSERT INTO businesses (name) VALUES ('new')",
            "UPDATE businesses SET name = name || ' new'",
            "UPDATE businesses SET id = id + 100",
            "DELETE FROM businesses",
            "SELECT * FROM businesses FOR UPDATE",
        ):
            written_at_once(businesses, write)


async def test_a_write_of_the_operator_keeps_only_writers_of_its_own_rows_waiting(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    async with held_open(kept[0], "write"):
        for write in (
            "INSERT INTO businesses (name) VALUES ('new')",
            "UPDATE businesses SET name = name || ' new' WHERE id NOT IN (4, 5)",
            "DELETE FROM businesses WHERE id NOT IN (4, 5)",
            "SELECT * FROM businesses FOR KEY SHARE",  # what a foreign key asks of the row that it refers to
        ):
            written_at_once(businesses, write)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            written_at_once(businesses, "UPDATE businesses SET name = 'its own' WHERE id = 4")


async def test_an_application_that_keeps_its_transaction_open_delays_only_its_own_rows(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    with businesses.transaction() as connection:
        run(connection, "UPDATE businesses SET name = name || ' not committed' WHERE id IN (1, 4)")
        run(connection, "INSERT INTO businesses (name) VALUES ('not committed')")
        assert {row.id for row in await keeper.sweep()} == {"1", "2", "3", "4", "5", "6"}
        await keeper.store.clear(["1", "2", "3"])
        assert await keeper.audit() == 0
        assert (await keeper.store.counts()).total == 6
        assert await keeper.write([vector_write(str(n), f"name {n}") for n in (4, 5, 6)]) == {"5", "6"}
    assert sorted(oracle.marks()) == ["1", "4", "4", "7"]
    assert await keeper.keep() == 3
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_table_that_is_being_altered_is_left_alone_until_later(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    with businesses.transaction() as connection:
        run(connection, "LOCK TABLE businesses IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(RowsLocked):
            await keeper.sweep()
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])
