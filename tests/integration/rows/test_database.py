"""The access to PostgreSQL: which errors are outages, locks or refusals, and what no message ever contains."""

import asyncio
import traceback
from contextlib import AsyncExitStack

import pytest

from embedding_worker.errors import DatabaseUnavailable, RowsLocked, RowsRefused, SourceRefused, StatementTimedOut
from embedding_worker.rows.database import Database
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.deadline import eventually
from tests.support.kept_rows import Application, run
from tests.support.tcp_proxy import DatabaseProxy

OPERATORS_SESSIONS = "application_name = 'embedding-operator' AND datname = current_database()"


async def answers(database: Database) -> bool:
    async with database.transaction() as transaction:
        return await transaction.fetch("SELECT 1") == [(1,)]


async def answers_again(database: Database) -> bool:
    try:
        return await answers(database)
    except DatabaseUnavailable:
        return False


def hurried(database: Database) -> Database:
    """One that waits for a connection as long as a test may."""
    database._pool.timeout = 0.5
    return database


async def test_a_server_that_cannot_be_reached_is_an_outage_and_over_when_it_can(application: Application) -> None:
    async with DatabaseProxy(application.url) as proxy:
        await proxy.stop()
        async with hurried(Database(proxy.url, max_connections=2)) as database:
            with pytest.raises(
                DatabaseUnavailable, match="no connection could be made: nothing listens at its address"
            ):
                await answers(database)
            await proxy.start()
            await eventually(lambda: answers_again(database), within_s=60, because="the proxy is started")


async def test_a_server_that_goes_away_is_an_outage_and_over_when_it_is_back(application: Application) -> None:
    async with DatabaseProxy(application.url) as proxy, Database(proxy.url, max_connections=2) as database:
        assert await answers(database)
        hurried(database)
        await proxy.stop()
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await answers(database)
        await proxy.start()
        await eventually(lambda: answers_again(database), within_s=60, because="the proxy is started")


async def test_a_server_that_goes_away_in_the_middle_of_a_transaction_is_an_outage(application: Application) -> None:
    async with DatabaseProxy(application.url) as proxy, hurried(Database(proxy.url, max_connections=2)) as database:

        async def work() -> None:
            async with database.transaction() as transaction:
                await transaction.fetch("SELECT 1")
                await proxy.stop()
                await transaction.fetch("SELECT 1")

        with pytest.raises(DatabaseUnavailable):
            await work()


async def test_connections_that_the_server_ended_are_an_outage_of_a_moment(
    application: Application, rows: Database
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(rows.transaction())
    ended = application.run(f"SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE {OPERATORS_SESSIONS}")
    assert ended == [(True,)] * 3
    await eventually(lambda: answers_again(rows), within_s=30, because="the server accepts new connections")


async def test_a_statement_whose_connection_is_ended_by_the_server_is_an_outage(
    application: Application, rows: Database
) -> None:

    async def work() -> None:
        async with rows.transaction() as transaction:
            await transaction.fetch("SELECT pg_sleep(60)")

    working = asyncio.create_task(work())
    ended = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OPERATORS_SESSIONS} AND query LIKE '%pg_sleep%'"
    )
    await eventually(lambda: application.run(ended), within_s=30, because="the statement runs")
    with pytest.raises(DatabaseUnavailable):
        await working
    await eventually(lambda: answers_again(rows), within_s=30, because="the server accepts new connections")


async def test_a_lock_is_waited_for_no_longer_than_a_moment(businesses: Application, rows: Database) -> None:
    with businesses.transaction() as connection:
        run(connection, "LOCK TABLE businesses")
        with pytest.raises(RowsLocked, match="LockNotAvailable"):
            async with rows.transaction() as transaction:
                await transaction.fetch("SELECT FROM public.businesses")


async def test_a_statement_that_takes_too_long_is_cancelled(rows: Database) -> None:
    with pytest.raises(StatementTimedOut, match="PostgreSQL has cancelled the statement, which took too long"):
        async with rows.transaction(statement_timeout_s=0.05) as transaction:
            await transaction.fetch("SELECT pg_sleep(60)")
    assert await answers(rows)


async def test_settings_end_with_their_transaction(application: Application) -> None:
    names = ("lock_timeout", "statement_timeout", "search_path", "TimeZone", "DateStyle", "IntervalStyle")
    shown = ", ".join(f"current_setting('{name}')" for name in names)
    (default,) = application.run(f"SELECT {shown}")
    async with Database(application.url, max_connections=1) as database:
        async with database.transaction(search_path=['"Own"', "public"], lock_timeout="2s") as transaction:
            (inside,) = await transaction.fetch(f"SELECT {shown}")
        async with database._pool.connection() as connection:
            (outside,) = await (await connection.execute(f"SELECT {shown}".encode())).fetchall()
    assert inside == ("2s", "30s", '"Own", public', "UTC", "ISO, MDY", "postgres")
    assert outside == default


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
async def test_statements_see_what_is_committed_whatever_isolation_the_database_prefers(
    businesses: Application, database: GivenDatabase, isolation: str
) -> None:
    """A snapshot of the whole transaction would refuse rows that the application has just changed."""
    businesses.run("INSERT INTO businesses (name) VALUES ('one')")
    businesses.run(f"ALTER DATABASE \"{database.name}\" SET default_transaction_isolation = '{isolation}'")
    businesses.run(f'ALTER DATABASE "{database.name}" SET default_transaction_deferrable = on')
    async with Database(database.url) as rows, rows.transaction() as transaction:
        shown = "SELECT current_setting('transaction_isolation'), current_setting('transaction_deferrable')"
        assert await transaction.fetch(shown) == [("read committed", "off")]
        businesses.run("UPDATE businesses SET name = 'two'")
        updated = await transaction.fetch("UPDATE public.businesses SET phone = name RETURNING phone")
        assert updated == [("two",)]


async def test_no_serializable_transaction_of_the_application_fails_because_of_the_operator(
    businesses: Application, database: GivenDatabase
) -> None:
    """Each reads what the other one writes: among serializable transactions one of them would have to fail."""
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two')")
    businesses.run(f"ALTER DATABASE \"{database.name}\" SET default_transaction_isolation = 'serializable'")
    with businesses.transaction() as connection:
        run(connection, "SELECT name FROM businesses WHERE id = 2")
        async with Database(database.url) as rows, rows.transaction() as transaction:
            await transaction.fetch("SELECT name FROM public.businesses WHERE id = 1")
            await transaction.fetch("UPDATE public.businesses SET name = 'operator' WHERE id = 2")
        run(connection, "UPDATE businesses SET name = 'application' WHERE id = 1")
    assert businesses.run("SELECT name FROM businesses ORDER BY id") == [("application",), ("operator",)]


async def test_a_text_is_the_same_whatever_the_database_prefers(
    businesses: Application, database: GivenDatabase, keep: Keep
) -> None:
    """Otherwise every audit would find every row due: an application may set its own date format."""
    businesses.run(
        "ALTER TABLE businesses ADD COLUMN opened timestamptz, ADD COLUMN score float8, ADD COLUMN hours interval"
    )
    businesses.run(
        "INSERT INTO businesses (opened, score, hours) VALUES ('2024-02-01 12:00+00', '0.30000000000000004', '8 h')"
    )
    for preference in (
        "TimeZone = 'Asia/Tokyo'",
        "DateStyle = 'German'",
        "IntervalStyle = 'iso_8601'",
        "extra_float_digits = 0",
        "search_path = pg_temp",
    ):
        businesses.run(f'ALTER DATABASE "{database.name}" SET {preference}')
    keeper, _ = await keep(text="concat_ws(' ', opened, score, hours)")
    (row,) = (await keeper.read(["1"])).values()
    assert row.text == "2024-02-01 12:00:00+00 0.30000000000000004 08:00:00"


async def test_work_that_fails_leaves_nothing_behind(businesses: Application, rows: Database) -> None:
    async def fail() -> None:
        async with rows.transaction() as transaction:
            await transaction.fetch("INSERT INTO public.businesses (name) VALUES ('one')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with rows.transaction() as transaction:
        await transaction.fetch("INSERT INTO public.businesses (name) VALUES ('two')")
        await transaction.undo()
    assert businesses.run("SELECT count(*) FROM businesses") == [(0,)]


async def test_more_callers_than_connections_take_turns(rows: Database) -> None:
    assert all(await asyncio.gather(*(answers(rows) for _ in range(40))))


async def test_what_is_wrong_with_a_statement_about_the_schema_is_quoted(rows: Database) -> None:
    with pytest.raises(
        SourceRefused, match=r'PostgreSQL says: relation "public.nosuch" does not exist \(42P01\)'
    ) as refused:
        async with rows.transaction(quoting=True) as transaction:
            await transaction.fetch("SELECT FROM public.nosuch")
    assert not isinstance(refused.value, RowsRefused)


async def test_of_a_statement_that_reads_rows_nothing_is_quoted(rows: Database) -> None:
    """A cast of a row's value to regclass fails as if a table were missing, and names the value."""
    with pytest.raises(RowsRefused) as refused:
        async with rows.transaction() as transaction:
            await transaction.fetch("SELECT v::regclass FROM (VALUES ('a secret value')) r(v)")
    assert str(refused.value) == "PostgreSQL refuses the statement: InvalidName (42602)"


@pytest.mark.parametrize(
    "text", ["description::int", "(description::json)->>'a'", "1 / (length(description) - 10) || ''"]
)
async def test_what_a_row_holds_is_in_no_message_and_no_traceback(
    businesses: Application, keep: Keep, text: str
) -> None:
    businesses.run("INSERT INTO businesses (description) VALUES ('confidence')")
    keeper, _ = await keep(text=text)
    assert await keeper.audit() == 1
    (row,) = (await keeper.read(["1"])).values()
    assert row.failure is not None
    assert row.failure.message.startswith("PostgreSQL refuses the statement")
    assert "confid" not in "".join(traceback.format_exception(row.failure))


@pytest.mark.parametrize("state", ["08006", "25006", "53100", "57P01"])
async def test_an_error_that_a_function_of_the_application_raises_is_no_outage(rows: Database, state: str) -> None:
    """Otherwise one row could stop its source: any code can be raised."""
    with pytest.raises(RowsRefused, match=state):
        async with rows.transaction() as transaction:
            await transaction.fetch(f"DO $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END$$")


def backends(application: Application, role: str) -> set[int]:
    return {pid for (pid,) in application.run("SELECT pid FROM pg_stat_activity WHERE usename = %s", role)}


@pytest.fixture
def role(application: Application, database_server: DatabaseServer) -> tuple[str, str]:
    """A role of its own, whose password can be changed."""
    return database_server.create_role("rotated")


async def test_a_new_password_is_used_from_then_on_and_work_under_way_is_finished(
    application: Application, database: GivenDatabase, role: tuple[str, str]
) -> None:
    name, password = role
    async with Database(database.url_for(name, password), max_connections=2) as rows:
        async with rows.transaction() as transaction:
            before = backends(application, name)
            application.run(f"ALTER ROLE {name} PASSWORD 'another'")
            await rows.move_to(database.url_for(name, "another"))
            assert await transaction.fetch("SELECT 1") == [(1,)]
        assert await answers(rows)
        await eventually(
            lambda: not backends(application, name) & before, within_s=30, because="the old connection came back"
        )
        assert backends(application, name)


async def test_a_url_by_which_no_connection_can_be_had_is_not_moved_to(
    application: Application, database: GivenDatabase, role: tuple[str, str]
) -> None:
    name, password = role
    async with Database(database.url_for(name, password), max_connections=2) as rows:
        assert await answers(rows)
        with pytest.raises(DatabaseUnavailable, match="no connection could be made: the password is refused"):
            await rows.move_to(database.url_for(name, "not-yet-in-force"))
        before = backends(application, name)
        assert await answers(rows)
        assert backends(application, name) == before
        application.run(f"ALTER ROLE {name} PASSWORD 'not-yet-in-force'")
        await rows.move_to(database.url_for(name, "not-yet-in-force"))
        assert await answers(rows)


async def test_what_is_no_url_is_refused_and_not_shown(rows: Database) -> None:
    url = "postgresql://user:s3cr3t@[::1/db"
    with pytest.raises(
        SourceRefused, match=r"it is no database URL: the \] of an address in brackets is missing: "
    ) as refused:
        await rows.move_to(url)
    assert "s3cr3t" not in "".join(traceback.format_exception(refused.value))
    assert await answers(rows)


async def test_a_password_that_was_wrong_from_the_start_is_corrected_without_a_restart(
    database: GivenDatabase, role: tuple[str, str]
) -> None:
    name, password = role
    async with hurried(Database(database.url_for(name, "wrong"), max_connections=2)) as rows:
        with pytest.raises(DatabaseUnavailable, match="the password is refused"):
            await answers(rows)
        await rows.move_to(database.url_for(name, password))
        await eventually(lambda: answers_again(rows), within_s=60, because="the password is correct now")
