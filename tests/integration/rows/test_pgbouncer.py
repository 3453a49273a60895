"""PgBouncer between the operator and PostgreSQL: pools of transactions and sessions work, the rest is refused by name."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import psycopg
import pytest

from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.rows.database import Database
from embedding_worker.rows.peek import newest_marks
from embedding_worker.rows.readiness import ready_for
from hack.database import pgbouncer
from hack.database.pgbouncer import PgBouncer
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.deadline import eventually
from tests.support.kept_rows import Application, Keeper, Oracle, source_config

pytestmark = pytest.mark.skipif(
    not pgbouncer.can_be_had(), reason="there is neither pgbouncer nor apt-get, which fetches it: install pgbouncer"
)
Bouncer = Callable[..., AbstractContextManager[PgBouncer]]


@pytest.fixture
def bouncer(businesses: Application, database: GivenDatabase, database_server: DatabaseServer) -> Bouncer:
    """Start a PgBouncer with these settings, for a role with the documented rights on the table."""
    role, password = database_server.create_role("through_pgbouncer")
    businesses.run(f'GRANT CREATE, TEMPORARY ON DATABASE "{database.name}" TO {role}')
    businesses.run(f"GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO {role}")

    def start(**settings: str) -> PgBouncer:
        return PgBouncer(database.url_for(role, password), **settings)

    return start


async def fetch(rows: Database, statement: str = "SELECT 1") -> object:
    async with rows.transaction() as transaction:
        ((value,),) = await transaction.fetch(statement)
        return value


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_source_is_kept_through_pgbouncer(businesses: Application, bouncer: Bouncer, mode: str) -> None:
    config = source_config()
    with bouncer(pool_mode=mode, default_pool_size="4") as started:
        async with Database(f"{started.url}&pgbouncer=true", max_connections=4) as rows:
            keeper = await Keeper.prepare(rows, config)
            businesses.run("INSERT INTO businesses (name) SELECT 'business ' || n FROM generate_series(1, 50) n")
            assert await keeper.keep() == 50
            businesses.run("UPDATE businesses SET name = name || '!' WHERE id <= 5")
            assert await keeper.audit() == 0
            assert await keeper.keep() == 5
            await ready_for(rows, config)
            assert await newest_marks(rows, [keeper.store.marks_table] * 2) == [None, None]
    assert Oracle(businesses, config).wrong() == []


async def test_no_setting_of_a_transaction_reaches_the_next_client_of_its_connection(bouncer: Bouncer) -> None:
    """The server's connections are shared, so a setting of the session would be another client's setting."""
    with bouncer(pool_mode="transaction", default_pool_size="1") as started:
        async with Database(started.url, max_connections=3) as rows, Database(started.url) as others:
            async with rows.transaction(lock_timeout="7s", search_path=["pg_temp"]) as transaction:
                assert await transaction.fetch("SHOW lock_timeout") == [("7s",)]
            async with others._pool.connection() as connection:
                (lock_timeout,) = await (await connection.execute("SHOW lock_timeout")).fetchall()
                (timezone,) = await (await connection.execute("SHOW search_path")).fetchall()
    assert lock_timeout == ("0",)
    assert timezone != ("pg_temp",)


async def test_the_isolation_is_the_same_through_pgbouncer_and_remains_with_the_transaction(
    businesses: Application, database: GivenDatabase, bouncer: Bouncer
) -> None:
    businesses.run(f"ALTER DATABASE \"{database.name}\" SET default_transaction_isolation = 'serializable'")
    with bouncer(pool_mode="transaction", default_pool_size="1") as started:
        async with Database(started.url, max_connections=2) as rows:
            assert await fetch(rows, "SHOW transaction_isolation") == "read committed"
            with psycopg.connect(started.url) as other:
                assert other.execute("SHOW transaction_isolation").fetchall() == [("serializable",)]
            assert await fetch(rows, "SHOW transaction_isolation") == "read committed"


async def test_more_callers_than_connections_of_the_server_take_turns(bouncer: Bouncer) -> None:
    with bouncer(pool_mode="transaction", default_pool_size="2") as started:
        async with Database(started.url) as rows:
            assert await asyncio.gather(*(fetch(rows) for _ in range(40))) == [1] * 40
            assert await asyncio.gather(*(rows.fetch("SELECT 1") for _ in range(40))) == [[(1,)]] * 40


async def test_a_pool_of_single_statements_is_refused_by_name(bouncer: Bouncer) -> None:
    with bouncer(pool_mode="statement") as started:
        async with Database(started.url, max_connections=2) as rows:
            with pytest.raises(DatabaseUnavailable) as refused:
                await fetch(rows)
    assert str(refused.value) == (
        "the connection cannot be used: PgBouncer pools single statements, and the operator needs transactions: set pool_mode = "
        "transaction or session for this database in PgBouncer"
    )


@pytest.mark.parametrize(
    ("parameters", "cause"),
    [
        ("&options=-cwork_mem%3D4MB", "PgBouncer refuses a setting in the URL, such as `options` (08P01): remove it"),
        ("&replication=database", "PgBouncer refuses a setting in the URL, such as `options` (08P01): remove it"),
    ],
)  # fmt: skip
async def test_a_parameter_that_pgbouncer_refuses_is_named(bouncer: Bouncer, parameters: str, cause: str) -> None:
    with bouncer(pool_mode="transaction") as started:
        await refused(f"{started.url}{parameters}", cause)


async def refused(url: str, cause: str) -> None:
    """Where PgBouncer stalls for longer than a cause is looked for, it is said that it does not answer: then once more."""

    async def is_named() -> bool:
        async with Database(url, max_connections=2) as rows:
            rows._pool.timeout = 0.5
            with pytest.raises(DatabaseUnavailable) as raised:
                await fetch(rows)
        assert str(raised.value).startswith(f"no connection could be made: {cause}")
        return True

    await eventually(is_named, within_s=60, because="PgBouncer refuses the connection")


async def test_a_database_a_role_or_a_password_that_pgbouncer_refuses_is_named(bouncer: Bouncer) -> None:
    with bouncer(pool_mode="transaction") as started:
        role, password, database = started.role, started.password, started.database
        await refused(started.url_of(role, password, "nowhere"), "PgBouncer does not know the database")
        await refused(started.url_of(role, "wrong", database), "the password is refused")
        await refused(started.url_of("nobody", password, database), "the password is refused")


async def test_too_many_clients_of_pgbouncer_are_named(bouncer: Bouncer) -> None:
    with bouncer(pool_mode="transaction", max_client_conn="1") as started:
        async with Database(started.url, max_connections=1) as rows:
            assert await fetch(rows) == 1
            await refused(started.url, "PgBouncer has too many clients")


async def test_a_role_that_the_server_refuses_behind_pgbouncer_is_named(
    businesses: Application, bouncer: Bouncer
) -> None:
    with bouncer(pool_mode="transaction", server_login_retry="0") as started:
        businesses.run(f"ALTER ROLE {started.role} PASSWORD 'changed'")
        await refused(started.url, "the password is refused")


async def test_connections_that_a_restart_of_pgbouncer_ended_are_replaced_at_once(bouncer: Bouncer) -> None:
    with bouncer(pool_mode="transaction") as started:
        async with Database(started.url, max_connections=2) as rows:
            assert await fetch(rows) == 1
            started.restart()
            assert await fetch(rows) == 1
            started.restart()
            assert await rows.fetch("SELECT 1") == [(1,)]
