"""Connections that are lost while nobody uses them, servers that become read-only, and URLs that change: another connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import psycopg
import pytest

from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.rows.database import Database
from hack.database.embedded_postgres import EmbeddedPostgres
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.database_doubles import SlowProxy
from tests.support.deadline import eventually
from tests.support.kept_rows import Application
from tests.support.tcp_proxy import DatabaseProxy

SESSIONS = "FROM pg_stat_activity WHERE application_name = 'embedding-operator' AND datname = current_database()"


async def fetch(database: Database, statement: str = "SELECT 1") -> object:
    async with database.transaction() as transaction:
        ((value,),) = await transaction.fetch(statement)
        return value


async def works(database: Database) -> bool:
    try:
        return await fetch(database) == 1
    except DatabaseUnavailable:
        return False


async def open_connections(database: Database, number: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(number):
            await stack.enter_async_context(database.transaction())


async def until_all_sessions_have_ended(application: Application) -> None:
    await eventually(
        lambda: application.run(f"SELECT count(*) {SESSIONS}") == [(0,)], within_s=30, because="the server ends them"
    )


@pytest.mark.parametrize("statement", ["SELECT 1", "CREATE TABLE public.made (id int)"])
async def test_sessions_that_were_idle_for_too_long_are_replaced_at_once(
    application: Application, database: GivenDatabase, statement: str
) -> None:
    application.run(f'ALTER DATABASE "{database.name}" SET idle_session_timeout = "500ms"')
    async with Database(database.url, max_connections=3) as rows:
        await open_connections(rows, 3)
        for _ in range(2):
            await until_all_sessions_have_ended(application)
            async with rows.transaction() as transaction:
                await transaction.fetch(statement.replace("made", f"made_{_}"))


async def test_a_source_is_kept_fresh_although_its_sessions_are_idle_for_too_long(
    businesses: Application, database: GivenDatabase, keep: Keep
) -> None:
    """The timeout of a session begins with the statement after a write, so those that have written last are ended here."""
    keeper, oracle = await keep()
    businesses.run(f'ALTER DATABASE "{database.name}" SET idle_session_timeout = "500ms"')
    businesses.run(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
    for name in ("one", "two"):
        businesses.run("INSERT INTO businesses (name) VALUES (%s)", name)
        assert await keeper.keep() == 1
        businesses.run(f"SELECT pg_terminate_backend(pid) {SESSIONS} AND query = 'COMMIT'")
        await until_all_sessions_have_ended(businesses)
    assert oracle.wrong() == []


async def test_sessions_that_an_administrator_has_ended_are_replaced_at_once(application: Application) -> None:
    async with Database(application.url, max_connections=3) as rows:
        await open_connections(rows, 3)
        application.run(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
        await until_all_sessions_have_ended(application)
        assert await asyncio.gather(*(fetch(rows) for _ in range(6))) == [1] * 6


async def test_a_peek_finds_another_connection_where_all_that_were_idle_are_lost(application: Application) -> None:
    async with Database(application.url, max_connections=3) as rows:
        await open_connections(rows, 3)
        application.run(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
        await until_all_sessions_have_ended(application)
        assert await rows.fetch_at_once("SELECT 1", within_s=30) == [(1,)]


async def test_connections_that_a_firewall_has_reset_are_replaced_at_once(application: Application) -> None:
    async with DatabaseProxy(application.url) as proxy, Database(proxy.url, max_connections=3) as rows:
        await open_connections(rows, 3)
        await proxy.stop()
        await proxy.start()
        assert await fetch(rows) == 1


@pytest.mark.parametrize("setting", ["idle_in_transaction_session_timeout", "transaction_timeout"])
async def test_a_transaction_that_the_server_ends_is_an_outage_of_a_moment(
    application: Application, database: GivenDatabase, setting: str
) -> None:
    application.run(f'ALTER DATABASE "{database.name}" SET {setting} = "1s"')
    async with Database(database.url, max_connections=2) as rows:

        async def linger() -> None:
            async with rows.transaction() as transaction:
                ((session,),) = await transaction.fetch("SELECT pg_backend_pid()")
                ended = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
                await eventually(
                    lambda: application.run(ended, session) == [(True,)], within_s=30, because="the server ends it"
                )
                await transaction.fetch("SELECT 1")

        with pytest.raises(DatabaseUnavailable):
            await linger()
        # The setting is in force for this one too, so that a stall ends it.
        await eventually(lambda: works(rows), within_s=30, because="the server is there")


@pytest.fixture(scope="module")
def two_servers() -> Iterator[tuple[EmbeddedPostgres, EmbeddedPostgres]]:
    """Two servers of their own, of which the second is like a standby: it accepts no writes."""
    with EmbeddedPostgres() as first, EmbeddedPostgres() as second:
        yield first, second


def accept_writes(server: EmbeddedPostgres, accepts: bool) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'off' if accepts else 'on'}")
        connection.execute("SELECT pg_reload_conf()")


async def until_writes_are(accepted: bool, server: EmbeddedPostgres) -> None:
    def as_expected() -> bool:
        with psycopg.connect(server.url) as connection:
            return connection.execute("SHOW transaction_read_only").fetchone() == ("off" if accepted else "on",)

    await eventually(as_expected, within_s=30, because="the server reads its configuration")


@pytest.fixture
async def on_two_servers(two_servers: tuple[EmbeddedPostgres, EmbeddedPostgres]) -> AsyncIterator[Database]:
    for number, server in enumerate(two_servers):
        accept_writes(server, number == 0)
        await until_writes_are(number == 0, server)
    hosts = ",".join(str(server.folder) for server in two_servers)
    async with Database(f"postgresql://postgres@/postgres?host={hosts}&port=5432,5432", max_connections=2) as rows:
        yield rows


async def test_after_a_failover_the_new_primary_is_found_among_the_hosts_of_the_url(
    on_two_servers: Database, two_servers: tuple[EmbeddedPostgres, EmbeddedPostgres]
) -> None:
    where = "SELECT current_setting('unix_socket_directories')"
    await open_connections(on_two_servers, 2)
    assert await fetch(on_two_servers, where) == str(two_servers[0].folder)
    for server, primary in zip(two_servers, (False, True), strict=True):
        accept_writes(server, primary)
        await until_writes_are(primary, server)

    async def write() -> None:
        async with on_two_servers.transaction() as transaction:
            await transaction.fetch("CREATE TEMPORARY TABLE written () ON COMMIT DROP")
            await transaction.fetch("CREATE SCHEMA written")
            await transaction.undo()

    with pytest.raises(DatabaseUnavailable):
        await write()
    await write()
    assert await fetch(on_two_servers, where) == str(two_servers[1].folder)


async def test_while_no_host_accepts_writes_the_reason_is_said_and_it_ends_by_itself(
    on_two_servers: Database, two_servers: tuple[EmbeddedPostgres, EmbeddedPostgres]
) -> None:
    accept_writes(two_servers[0], False)
    await until_writes_are(False, two_servers[0])
    on_two_servers._pool.timeout = 0.5
    with pytest.raises(DatabaseUnavailable):
        await fetch(on_two_servers, "SELECT set_config('application_name', 'x', true) FROM pg_class LIMIT 1 FOR UPDATE")
    with pytest.raises(
        DatabaseUnavailable, match="no connection could be made: it accepts no writes: name the primary"
    ):
        await fetch(on_two_servers)
    accept_writes(two_servers[0], True)

    await eventually(lambda: works(on_two_servers), within_s=60, because="the first host accepts writes again")


async def peek(database: Database, statement: str) -> object:
    ((value,),) = await database.fetch_at_once(statement, within_s=30)
    return value


@pytest.mark.parametrize("fetch", [fetch, peek])
async def test_a_connection_that_was_being_opened_when_the_url_changed_is_not_used(
    database: GivenDatabase, database_server: DatabaseServer, fetch: Callable[[Database, str], Awaitable[object]]
) -> None:
    old, new = (database_server.create_role(name) for name in ("old", "new"))
    async with SlowProxy(database.url_for(*old)) as proxy, Database(proxy.url, max_connections=1) as rows:
        waiting = asyncio.ensure_future(fetch(rows, "SELECT current_user::text"))
        await eventually(lambda: proxy.waiting, within_s=20, because="the pool opens a connection")
        await rows.move_to(database.url_for(*new))
        proxy.gate.set()
        assert await waiting == new[0]
