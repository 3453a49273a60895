"""What appends a mark: whatever may change a row's text, and nothing else."""

import psycopg
import pytest

from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Oracle, run


async def test_an_insert_is_marked(businesses: Application, keep: Keep) -> None:
    _, oracle = await keep()
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two')")
    assert oracle.marks() == ["1", "2"]


@pytest.fixture
async def fresh(businesses: Application, keep: Keep) -> Oracle:
    """One business, which is fresh; its text is made of name and description."""
    keeper, oracle = await keep(text="concat_ws(' ', name, description)")
    businesses.run("INSERT INTO businesses (name, description) VALUES ('one', 'does it')")
    await keeper.keep()
    return oracle


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE businesses SET name = 'new'",
        "UPDATE businesses SET description = NULL",
        "UPDATE businesses SET name = 'ONE'",
        "UPDATE businesses SET name = 'one '",
        "UPDATE businesses SET phone = '+1', name = 'new'",
        "UPDATE businesses SET embedding = NULL, description = ''",
        "INSERT INTO businesses (id, name) VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        "MERGE INTO businesses b USING (VALUES (1)) v(id) ON b.id = v.id WHEN MATCHED THEN UPDATE SET name = 'new'",
        "WITH gone AS (DELETE FROM businesses RETURNING *) SELECT count(*) FROM gone; INSERT INTO businesses VALUES (1, 'a')",
    ],
)
async def test_an_edit_of_what_the_text_reads_is_marked(fresh: Oracle, edit: str) -> None:
    fresh.application.run(edit)
    assert fresh.marks() == ["1"]


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE businesses SET phone = '+1-555-0100'",
        "UPDATE businesses SET name = 'one'",
        "UPDATE businesses SET name = name, phone = NULL",
        "UPDATE businesses SET embedding = '[1,2,3]'",
        "UPDATE businesses SET name = 'new' WHERE id = 2",
        "DELETE FROM businesses",
        "SELECT * FROM businesses FOR UPDATE",
        "BEGIN; UPDATE businesses SET name = 'new'; ROLLBACK",
    ],
)
async def test_what_leaves_the_text_alone_is_not_marked(fresh: Oracle, edit: str) -> None:
    fresh.application.run(edit)
    assert fresh.marks() == []


async def test_each_edit_has_a_mark_of_its_own(fresh: Oracle) -> None:
    """Marks are only appended: an edit never waits for the mark of another one."""
    for name in ("two", "three"):
        fresh.application.run("UPDATE businesses SET name = %s", name)
    assert fresh.marks() == ["1", "1"]


async def test_another_id_is_another_row(fresh: Oracle) -> None:
    fresh.application.run("UPDATE businesses SET id = 7")
    assert fresh.marks() == ["7"]


@pytest.mark.parametrize(
    ("column_type", "before", "after"),
    [
        ("json", '{"a": 1}', '{"a":  1}'),
        ("jsonb", '{"a": 1}', '{"a": 2}'),
        ("numeric", "1.0", "1.00"),
        ("point", "(1,2)", "(1,3)"),
        ("text[]", "{a,b}", "{b,a}"),
        ("double precision", "0", "-0"),
        ("interval", "1 day", "24 hours"),
    ],
)
async def test_a_change_that_only_the_bytes_show_is_marked(
    application: Application, keep: Keep, column_type: str, before: str, after: str
) -> None:
    """`=` calls 1.0 and 1.00 the same, and json has no `=` at all; their texts differ."""
    application.run(f"CREATE TABLE businesses (id bigint PRIMARY KEY, name {column_type}, embedding vector(3))")
    keeper, oracle = await keep(text="name::text")
    application.run(f"INSERT INTO businesses VALUES (1, %s::{column_type})", before)
    await keeper.keep()
    application.run(f"UPDATE businesses SET name = %s::{column_type}", after)
    assert oracle.marks() == ["1"]
    await keeper.keep()
    assert oracle.wrong() == []


async def test_what_a_trigger_of_the_application_rewrites_is_marked(fresh: Oracle) -> None:
    fresh.application.run(
        "CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.name := 'of ' || NEW.phone; RETURN NEW; END$$"
    )
    fresh.application.run("CREATE TRIGGER zz_rename BEFORE UPDATE ON businesses FOR EACH ROW EXECUTE FUNCTION rename()")
    fresh.application.run("UPDATE businesses SET phone = '+1-555-0100'")
    assert fresh.marks() == ["1"]


async def test_a_generated_column_is_marked_by_what_it_reads(application: Application, keep: Keep) -> None:
    application.run(
        "CREATE TABLE businesses (id bigint PRIMARY KEY, name text, phone text, embedding vector(3), "
        "shout text GENERATED ALWAYS AS (upper(name)) STORED)"
    )
    keeper, oracle = await keep(text="shout")
    application.run("INSERT INTO businesses VALUES (1, 'one')")
    await keeper.keep()
    application.run("UPDATE businesses SET phone = '+1'")
    assert oracle.marks() == []
    application.run("UPDATE businesses SET name = 'two'")
    assert oracle.marks() == ["1"]


async def test_an_application_without_any_privilege_on_the_book_keeping_can_write(
    businesses: Application, keep: Keep, database: GivenDatabase, database_server: DatabaseServer
) -> None:
    _, oracle = await keep()
    role, password = database_server.create_role("writer")
    businesses.run(f'GRANT SELECT, INSERT, UPDATE ON businesses TO "{role}"')
    writer = Application(database.url_for(role, password))
    writer.run("INSERT INTO businesses (name) VALUES ('one')")
    writer.run("UPDATE businesses SET name = 'new'")
    assert oracle.marks() == ["1", "1"]


async def test_no_other_role_can_call_the_marking_function(
    businesses: Application, keep: Keep, database: GivenDatabase, database_server: DatabaseServer
) -> None:
    """It writes into our tables with our rights, and no other role can name it."""
    await keep()
    role, password = database_server.create_role("stranger")
    (function,) = businesses.run("SELECT oid::regproc::text FROM pg_proc WHERE proname LIKE %s", "%_mark")[0]
    businesses.run(f'GRANT CREATE ON SCHEMA public TO "{role}"')
    stranger = Application(database.url_for(role, password))
    stranger.run("CREATE TABLE own (id bigint)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for schema embedding_operator"):
        stranger.run(f"CREATE TRIGGER own AFTER INSERT ON own FOR EACH ROW EXECUTE FUNCTION {function}()")


async def test_a_writer_whose_search_path_holds_tables_of_our_names_is_not_led_astray(
    businesses: Application, keep: Keep
) -> None:
    _, oracle = await keep()
    businesses.run("CREATE SCHEMA pitfall")
    stem = oracle.config.at.bookkeeping_name
    businesses.run(f'CREATE TABLE pitfall."{stem}_marks" (id bigint)')
    businesses.run("INSERT INTO businesses (name) VALUES ('one')")
    with businesses.transaction() as connection:
        run(connection, "SET search_path = pitfall, pg_catalog, public")
        run(connection, "UPDATE public.businesses SET name = 'new'")
    assert oracle.marks() == ["1", "1"]


async def test_rows_that_arrive_by_replication_are_marked_where_the_table_is_our_own(
    businesses: Application, keep: Keep
) -> None:
    _, oracle = await keep()
    with businesses.transaction() as connection:
        run(connection, "SET session_replication_role = replica")
        run(connection, "INSERT INTO businesses (name) VALUES ('one')")
        run(connection, "UPDATE businesses SET name = 'new'")
    assert oracle.marks() == ["1", "1"]
