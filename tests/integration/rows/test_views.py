"""What a person with psql alone can ask of the book-keeping."""

from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Claim, Owner
from embedding_worker.rows.records import LastOutcome
from embedding_worker.rows.schema import prepare
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, source_config, vector_write

STATUS = "SELECT source, table_name, total, fresh, due, blank, backfilling FROM embedding_operator.status"
ROWS = "embedding_operator.businesses_embedding_483aaedc_rows"
ROW = "SELECT source, up_to_date, why FROM embedding_operator.row_status('public.businesses', %s)"


@pytest.fixture
async def keeper(businesses: Application, keep: Keep, rows: Database) -> Keeper:
    keeper, _ = await keep()
    await prepare(rows, source_config(), Claim(Owner("shops", "businesses", "uid-1", "cluster")))
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), (' '), ('three')")
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 1")
    return keeper


@pytest.fixture
async def reader(
    keeper: Keeper, businesses: Application, database: GivenDatabase, database_server: DatabaseServer
) -> AsyncIterator[psycopg.Connection]:
    """A role that may read the view, and nothing else."""
    role, password = database_server.create_role("reader")
    businesses.run(f'GRANT USAGE ON SCHEMA embedding_operator TO "{role}"')
    businesses.run(f'GRANT SELECT ON embedding_operator.status TO "{role}"')
    with psycopg.connect(database.url_for(role, password)) as connection:
        yield connection


async def test_a_source_has_a_line_with_its_rows(reader: psycopg.Connection) -> None:
    assert reader.execute(STATUS).fetchall() == [("shops/businesses", "public.businesses", 3, 2, 1, 1, False)]


@pytest.mark.parametrize(
    ("row", "up_to_date", "why"),
    [
        ("1", False, "edited: it has an EmbeddingJob, or gets one"),
        ("2", True, "its text is empty"),
        ("3", True, "it has the vector of its text"),
        ("4", False, "unknown: no such row, or the audit has not come to it yet"),
        ("no number'", False, "unknown: no such row, or the audit has not come to it yet"),
    ],
)
async def test_a_row_is_up_to_date_or_it_is_said_why_not(
    reader: psycopg.Connection, row: str, up_to_date: bool, why: str
) -> None:
    assert reader.execute(ROW, [row]).fetchall() == [("shops/businesses", up_to_date, why)]


async def test_a_table_without_a_source_has_no_line(reader: psycopg.Connection) -> None:
    assert reader.execute("SELECT * FROM embedding_operator.row_status('public.others', '1')").fetchall() == []


async def test_they_prevent_no_change_of_a_table(keeper: Keeper, businesses: Application) -> None:
    businesses.run("ALTER TABLE businesses ALTER COLUMN id DROP IDENTITY")
    businesses.run("ALTER TABLE businesses ALTER COLUMN id TYPE text")
    await prepare(keeper.database, source_config())
    assert businesses.run(f"SELECT up_to_date FROM {ROWS} WHERE id = '1'") == [(False,)]
    for table in (keeper.statements.marks, keeper.statements.state, "businesses"):
        businesses.run(f"DROP TABLE {table}")
    assert businesses.run("SELECT due FROM embedding_operator.status") == [(None,)]


async def test_another_version_replaces_them(keeper: Keeper, businesses: Application) -> None:
    businesses.run("DROP VIEW embedding_operator.status")
    businesses.run("CREATE VIEW embedding_operator.status AS SELECT 1 AS other")
    await prepare(keeper.database, source_config())
    assert businesses.run("SELECT count(*) FROM embedding_operator.status") == [(1,)]
    assert businesses.run(STATUS)


async def test_the_functions_of_an_earlier_version_are_replaced_and_rights_on_the_view_are_kept(
    keeper: Keeper, reader: psycopg.Connection, businesses: Application
) -> None:
    businesses.run("DROP FUNCTION embedding_operator.row_status")
    businesses.run(
        "CREATE FUNCTION embedding_operator.row_status(of_table text, row_id text) RETURNS TABLE (up_to_date boolean) "
        "LANGUAGE sql AS 'SELECT true'"
    )
    businesses.run("COMMENT ON VIEW embedding_operator.status IS 'made by embedding-operator, 00000000'")
    await prepare(keeper.database, source_config())
    assert reader.execute(STATUS).fetchall() == [("shops/businesses", "public.businesses", 3, 2, 1, 1, False)]
    assert reader.execute(ROW, ["3"]).fetchall() == [("shops/businesses", True, "it has the vector of its text")]


async def test_a_view_of_other_columns_is_replaced(keeper: Keeper, businesses: Application) -> None:
    businesses.run(f"DROP VIEW {ROWS}")
    businesses.run(f"DROP FUNCTION {ROWS}")
    businesses.run(f"CREATE FUNCTION {ROWS}() RETURNS TABLE (id int) LANGUAGE sql AS 'SELECT 1'")
    businesses.run(f"CREATE VIEW {ROWS} AS SELECT * FROM {ROWS}()")
    await prepare(keeper.database, source_config())
    assert businesses.run(f"SELECT count(*) FROM {ROWS}") == [(3,)]


async def test_each_row_has_a_line(keeper: Keeper, businesses: Application) -> None:
    assert businesses.run(f"SELECT id, source, up_to_date, why, model, last_error FROM {ROWS} ORDER BY id") == [
        (1, "shops/businesses", False, "edited: it has an EmbeddingJob, or gets one", "fake@3", None),
        (2, "shops/businesses", True, "its text is empty", "fake@3", None),
        (3, "shops/businesses", True, "it has the vector of its text", "fake@3", None),
    ]
    assert businesses.run(f"SELECT id, due_since IS NULL, last_attempt = embedded_at FROM {ROWS} ORDER BY id") == [
        (1, False, True),
        (2, True, True),
        (3, True, True),
    ]


OUTCOMES = {
    "Retrying": ("its last attempt did not succeed: it is tried again", "ProviderUnavailable: it is away"),
    "DeadLettered": ("failed: its EmbeddingJob is a dead letter", "ProviderUnavailable: it is away"),
    "HandedOver": ("edited: it has an EmbeddingJob, or gets one", "ProviderUnavailable: it is away"),
    "Superseded": ("edited: it has an EmbeddingJob, or gets one", None),
}


@pytest.mark.parametrize("phase", OUTCOMES)
async def test_the_last_outcome_says_why_a_row_is_due(keeper: Keeper, businesses: Application, phase: str) -> None:
    at = businesses.run("SELECT now() + interval '1 second'")[0][0]
    before = LastOutcome(at - timedelta(days=1), "Retrying", "RowLocked", "locked", 0)
    await keeper.store.record_outcomes(
        [("1", before), ("1", LastOutcome(at, phase, "ProviderUnavailable", "it is away", 1))]
    )
    why, last_error = OUTCOMES[phase]
    attempted = at if last_error else businesses.run(f"SELECT embedded_at FROM {ROWS} WHERE id = 1")[0][0]
    columns = "up_to_date, why, last_attempt, last_error"
    expected = [(False, why, attempted, last_error)]
    assert businesses.run(f"SELECT {columns} FROM {ROWS} WHERE id = 1") == expected
    row_status = "embedding_operator.row_status('public.businesses', '1')"
    assert businesses.run(f"SELECT {columns} FROM {row_status}") == expected


async def test_an_error_from_before_the_row_was_embedded_is_not_its_last_error(
    keeper: Keeper, businesses: Application
) -> None:
    at = businesses.run("SELECT now() - interval '1 hour'")[0][0]
    await keeper.store.record_outcomes([("3", LastOutcome(at, "Retrying", "ProviderUnavailable", "it is away", 1))])
    assert businesses.run(f"SELECT up_to_date, last_error FROM {ROWS} WHERE id = 3") == [(True, None)]


async def test_a_row_with_several_marks_has_one_line(keeper: Keeper, businesses: Application) -> None:
    for name in ("again", "and again"):
        businesses.run("UPDATE businesses SET name = %s WHERE id IN (1, 3)", name)
    assert businesses.run(f"SELECT id FROM {ROWS} WHERE NOT up_to_date ORDER BY due_since, id") == [(1,), (3,)]
    assert businesses.run(f"SELECT count(*) FROM {ROWS}") == [(3,)]


@pytest.mark.parametrize(
    ("id_type", "ids"),
    [
        ("smallint", ["-32768", "0", "32767"]),
        ("integer", ["-2147483648", "2147483647"]),
        ("bigint", ["-9223372036854775808", "9223372036854775807", "123456789012345678"]),
        ("uuid", ["6f1b1c7e-0d5c-4c5e-9a54-0123456789ab"]),
        ("text", ["a 'quoted' id", "7"]),
        ("char(5)", ["ab"]),
    ],
)
async def test_ids_of_every_type_are_shown_and_those_of_no_row_are_not(
    application: Application, keep: Keep, id_type: str, ids: list[str]
) -> None:
    application.run(f"CREATE TABLE businesses (id {id_type} PRIMARY KEY, name text, embedding vector(3))")
    keeper, _ = await keep()
    for row_id in ids:
        application.run(f"INSERT INTO businesses VALUES (%s::{id_type}, 'one')", row_id)
    if id_type not in ("text", "char(5)"):
        for impossible in ("", "-", "x", "99999999999999999999", "9223372036854775808", "1-2"):
            application.run(f"INSERT INTO {keeper.statements.marks} (id) VALUES (%s)", impossible)
    shown = f"SELECT id::text, up_to_date FROM {ROWS} ORDER BY 1"
    assert application.run(shown) == sorted((row_id, False) for row_id in ids)
    await keeper.write([vector_write(row_id, "one") for row_id in ids])
    assert application.run(shown) == sorted((row_id, True) for row_id in ids)
    assert application.run(f"SELECT up_to_date FROM {ROWS} WHERE id = %s::{id_type}", ids[0]) == [(True,)]


async def test_a_source_is_set_up_also_where_they_cannot_be_created(keeper: Keeper, businesses: Application) -> None:
    businesses.run("DROP VIEW embedding_operator.status")
    businesses.run("CREATE TABLE embedding_operator.status (other int)")
    await prepare(keeper.database, source_config())
    assert businesses.run("SELECT relkind::text FROM pg_class WHERE relname = 'status'") == [("r",)]


ATTACK = """
CREATE FUNCTION pg_temp.attack(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'runs as %', current_user;
END $$;
CREATE TEMP VIEW pg_attribute AS SELECT a.attrelid, a.attname, a.atttypid FROM pg_catalog.pg_attribute a WHERE pg_temp.attack('');
CREATE DOMAIN pg_temp.regclass AS pg_catalog.regclass CHECK (pg_temp.attack(VALUE::text));
CREATE DOMAIN pg_temp.json AS pg_catalog.json CHECK (pg_temp.attack(VALUE::text));
CREATE DOMAIN pg_temp.int8 AS pg_catalog.int8 CHECK (pg_temp.attack(VALUE::text));
"""


async def test_temporary_objects_of_a_reader_do_not_run_as_the_operator(
    reader: psycopg.Connection, businesses: Application
) -> None:
    ((database,),) = reader.execute("SELECT current_database()").fetchall()
    businesses.run(f'GRANT TEMPORARY ON DATABASE "{database}" TO PUBLIC')
    reader.execute(ATTACK.encode())
    assert reader.execute(STATUS).fetchall() == [("shops/businesses", "public.businesses", 3, 2, 1, 1, False)]
    assert reader.execute(ROW, ["3"]).fetchall() == [("shops/businesses", True, "it has the vector of its text")]


async def test_a_person_who_reads_a_view_in_an_open_transaction_holds_up_no_set_up(
    reader: psycopg.Connection, keeper: Keeper, rows: Database, businesses: Application
) -> None:
    businesses.run("COMMENT ON VIEW embedding_operator.status IS 'made by an earlier version'")
    reader.execute(STATUS)  # it stays in its transaction
    await prepare(rows, source_config(), Claim(Owner("shops", "businesses", "uid-1", "cluster")))
    comment = "SELECT obj_description('embedding_operator.status'::regclass)"
    assert businesses.run(comment) == [("made by an earlier version",)]
    reader.rollback()
    await prepare(rows, source_config(), Claim(Owner("shops", "businesses", "uid-1", "cluster")))
    assert businesses.run(comment) != [("made by an earlier version",)]
