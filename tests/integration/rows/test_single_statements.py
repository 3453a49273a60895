"""A statement in a transaction of its own: one round trip, and every guarantee that a transaction has."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from embedding_worker.errors import DatabaseUnavailable, RowsLocked, RowsRefused, StatementTimedOut
from embedding_worker.rows.database import Database
from hack.database.postgres import Database as GivenDatabase
from tests.integration.rows.conftest import Keep
from tests.support.deadline import eventually
from tests.support.kept_rows import Application, run, vector_write
from tests.support.tcp_proxy import DatabaseProxy

SESSIONS = "FROM pg_stat_activity WHERE application_name = 'embedding-operator' AND datname = current_database()"
PID = "SELECT pg_backend_pid()"


async def round_trips(database: Database, work: Callable[[], Awaitable[object]]) -> int:
    """How often the server got something to answer: it then says that it is ready again."""
    async with database._pool.connection() as connection:
        traced = connection.pgconn
    file = os.memfd_create("trace")
    try:
        traced.trace(file)
        await work()
        traced.untrace()
        os.lseek(file, 0, os.SEEK_SET)
        return os.read(file, 1 << 20).count(b"ReadyForQuery")
    finally:
        os.close(file)


async def test_a_read_and_a_write_of_rows_cost_one_round_trip_each(
    businesses: Application, database: GivenDatabase, keep: Keep
) -> None:
    keeper, _ = await keep()
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two')")
    async with Database(database.url, max_connections=1) as rows:
        store = type(keeper.store)(rows, keeper.statements)
        await store.write([vector_write("1", "one")])  # the first one asks for the type of the vectors
        assert await round_trips(rows, lambda: store.read(["1", "2"], characters=100)) == 1
        assert await round_trips(rows, lambda: store.write([vector_write("1", "one"), vector_write("2", "two")])) == 1
    assert businesses.run("SELECT count(embedding) FROM businesses") == [(2,)]


async def test_a_second_statement_is_refused_and_not_run(businesses: Application, rows: Database) -> None:
    with pytest.raises(RowsRefused, match="42601"):
        await rows.fetch("SELECT 1; INSERT INTO public.businesses (name) VALUES ('two')")
    assert businesses.run("SELECT count(*) FROM businesses") == [(0,)]


async def test_its_settings_are_in_force_and_end_with_it(application: Application) -> None:
    shown = "SELECT current_setting('lock_timeout'), current_setting('search_path'), current_setting('row_security')"
    (default,) = application.run(shown)
    async with Database(application.url, max_connections=1) as rows:
        (inside,) = await rows.fetch(shown, search_path=["pg_temp"], lock_timeout="2s")
        async with rows._pool.connection() as connection:
            (outside,) = await (await connection.execute(shown.encode())).fetchall()
    assert inside == ("2s", "pg_temp", "off")
    assert outside == default


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
async def test_its_isolation_is_the_operators(businesses: Application, database: GivenDatabase, isolation: str) -> None:
    businesses.run(f"ALTER DATABASE \"{database.name}\" SET default_transaction_isolation = '{isolation}'")
    async with Database(database.url) as rows:
        assert await rows.fetch("SELECT current_setting('transaction_isolation')") == [("read committed",)]


async def test_after_an_error_nothing_is_written_and_the_connection_is_used_again(
    businesses: Application, database: GivenDatabase
) -> None:
    businesses.run("CREATE TABLE seen (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    async with Database(database.url, max_connections=1) as rows:
        before = await rows.fetch(PID)
        with pytest.raises(RowsRefused, match="22012"):
            await rows.fetch("SELECT 1 / 0")
        with pytest.raises(RowsRefused, match="constraint seen_id_key is violated"):  # found by COMMIT
            await rows.fetch("INSERT INTO public.seen SELECT $1::bigint FROM generate_series(1, 2)", 1)
        with pytest.raises(StatementTimedOut):
            await rows.fetch("SELECT pg_sleep(60)", statement_timeout_s=0.05)
        with businesses.transaction() as connection:
            run(connection, "LOCK TABLE seen")
            with pytest.raises(RowsLocked):
                await rows.fetch("SELECT FROM public.seen")
        assert await rows.fetch(PID) == before
    assert businesses.run("SELECT count(*) FROM seen") == [(0,)]


async def test_a_caller_that_is_cancelled_leaves_a_connection_that_works(
    application: Application, rows: Database
) -> None:
    waiting = asyncio.create_task(rows.fetch("SELECT pg_sleep(60)"))
    is_running = f"SELECT count(*) = 1 {SESSIONS} AND query LIKE '%pg_sleep%' AND state = 'active'"
    await eventually(lambda: application.run(is_running) == [(True,)], within_s=30, because="it was sent")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await rows.fetch("SELECT 1") == [(1,)]


async def test_sessions_that_were_ended_while_nobody_used_them_are_replaced_at_once(application: Application) -> None:
    async with Database(application.url, max_connections=3) as rows:
        await asyncio.gather(*(rows.fetch("SELECT pg_sleep(0.1)::text") for _ in range(3)))
        application.run(f"SELECT pg_terminate_backend(pid, 30000) {SESSIONS}")
        assert await asyncio.gather(*(rows.fetch("SELECT 1") for _ in range(6))) == [[(1,)]] * 6


async def test_connections_that_a_firewall_has_reset_are_replaced_at_once(application: Application) -> None:
    async with DatabaseProxy(application.url) as proxy, Database(proxy.url, max_connections=3) as rows:
        await asyncio.gather(*(rows.fetch("SELECT pg_sleep(0.1)::text") for _ in range(3)))
        await proxy.stop()
        await proxy.start()
        assert await rows.fetch("SELECT 1") == [(1,)]


async def test_a_statement_whose_session_is_ended_again_and_again_is_an_outage(
    application: Application, rows: Database
) -> None:
    """It is run twice, and no third time: it may be what ends the session."""
    working = asyncio.create_task(rows.fetch("SELECT pg_sleep(60)"))
    ended: set[int] = set()

    def end_them() -> bool:
        found = application.run(f"SELECT pid, pg_terminate_backend(pid) {SESSIONS} AND query LIKE '%pg_sleep%'")
        ended.update(pid for pid, _ in found)
        return working.done()

    await eventually(end_them, within_s=30, because="it fails")
    with pytest.raises(DatabaseUnavailable):
        await working
    assert len(ended) == 2
