"""The peek at the newest change marks: what it sees, that it is one statement, and what it does where it cannot be answered."""

import psycopg
import pytest

from embedding_worker.errors import SourceRefused, StatementTimedOut
from embedding_worker.rows import peek as peek_module
from embedding_worker.rows.database import Database
from embedding_worker.rows.peek import newest_marks
from hack.database.postgres import Database as GivenDatabase
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peek is given up because the machine stalls."""
    monkeypatch.setattr(peek_module, "PEEK_WITHIN_S", 60.0)


async def marks_of(keep: Keep) -> str:
    keeper, _ = await keep()
    return keeper.store.marks_table


async def peek(rows: Database, *tables: str) -> list[int | None] | None:
    return await newest_marks(rows, tables)


async def test_a_mark_is_seen_when_its_transaction_has_committed(
    businesses: Application, database: GivenDatabase, rows: Database, keep: Keep
) -> None:
    marks = await marks_of(keep)
    assert await peek(rows, marks) == [None]
    with psycopg.connect(database.url) as edit:
        edit.execute("INSERT INTO businesses (name) VALUES ('Bakery')")
        assert await peek(rows, marks) == [None]
    assert await peek(rows, marks) == [1]
    with psycopg.connect(database.url) as edit:
        edit.execute("INSERT INTO businesses (name) VALUES ('Butcher')")
        edit.rollback()
    assert await peek(rows, marks) == [1]


async def test_a_mark_that_commits_after_a_higher_one_is_seen_when_that_one_is_deleted(
    businesses: Application, database: GivenDatabase, rows: Database, keep: Keep
) -> None:
    marks = await marks_of(keep)
    with psycopg.connect(database.url) as late:
        late.execute("INSERT INTO businesses (name) VALUES ('late')")
        businesses.run("INSERT INTO businesses (name) VALUES ('early')")
        assert await peek(rows, marks) == [2]
        businesses.run(f"DELETE FROM {marks}")
        assert await peek(rows, marks) == [None]
    assert await peek(rows, marks) == [1]


async def test_one_peek_reads_the_marks_of_several_sources(businesses: Application, rows: Database, keep: Keep) -> None:
    marks = await marks_of(keep)
    businesses.run('CREATE TABLE embedding_operator."other % marks" (LIKE ' + marks + " INCLUDING ALL)")
    businesses.run("INSERT INTO businesses (name) VALUES ('Bakery')")
    assert await peek(rows, marks, 'embedding_operator."other % marks"', marks) == [1, None, 1]


async def test_marks_that_are_truncated_and_numbered_again_are_seen(
    businesses: Application, rows: Database, keep: Keep
) -> None:
    marks = await marks_of(keep)
    businesses.run("INSERT INTO businesses (name) SELECT 'name ' || n FROM generate_series(1, 3) n")
    assert await peek(rows, marks) == [3]
    businesses.run(f"TRUNCATE {marks} RESTART IDENTITY")
    businesses.run("INSERT INTO businesses (name) VALUES ('again')")
    assert await peek(rows, marks) == [1]


async def test_no_setting_of_the_role_changes_what_a_peek_means(
    businesses: Application, database: GivenDatabase, keep: Keep
) -> None:
    marks = await marks_of(keep)
    businesses.run("INSERT INTO businesses (name) VALUES ('Bakery')")
    businesses.run("CREATE SCHEMA evil")
    businesses.run("CREATE FUNCTION evil.never(text, text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT false'")
    businesses.run("CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.never)")
    businesses.run("CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT 'serializable'$$")
    businesses.run(f'ALTER DATABASE "{database.name}" SET search_path = evil, pg_catalog')
    async with Database(database.url, max_connections=1) as rows:
        assert await peek(rows, marks) == [1]


async def test_where_transactions_are_serializable_no_mark_is_read(
    businesses: Application, database: GivenDatabase, keep: Keep
) -> None:
    """A serializable read could make a transaction of the application fail."""
    marks = await marks_of(keep)
    businesses.run("INSERT INTO businesses (name) VALUES ('Bakery')")
    businesses.run(f"ALTER DATABASE \"{database.name}\" SET default_transaction_isolation = 'serializable'")
    async with Database(database.url, max_connections=1) as rows:
        assert await peek(rows, marks) is None


async def test_a_peek_gives_up_where_the_marks_are_locked_and_its_connection_can_be_used_again(
    businesses: Application, database: GivenDatabase, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = await marks_of(keep)
    async with Database(database.url, max_connections=1) as rows:
        with psycopg.connect(database.url) as other, monkeypatch.context() as impatient:
            impatient.setattr(peek_module, "PEEK_WITHIN_S", 0.2)
            other.execute(f"LOCK TABLE {marks} IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StatementTimedOut):
                await peek(rows, marks)
        assert await peek(rows, marks) == [None]


async def test_marks_that_do_not_exist_are_refused_by_name(rows: Database) -> None:
    with pytest.raises(SourceRefused, match="nowhere"):
        await peek(rows, "embedding_operator.nowhere")


async def test_a_peek_is_one_statement_without_a_transaction_block(
    businesses: Application, database: GivenDatabase, keep: Keep
) -> None:
    marks = await marks_of(keep)
    async with Database(database.url, max_connections=1) as rows:
        await peek(rows, marks)
        last = (
            "SELECT query, state FROM pg_stat_activity WHERE application_name = 'embedding-operator' AND datname = $1"
        )
        found = businesses.run(last.replace("$1", "current_database()") + " ORDER BY state_change DESC LIMIT 1")
    ((query, state),) = found
    assert (query, state) == (peek_module.peek([marks]), "idle")
