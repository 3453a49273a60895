"""What a person with psql alone can ask of the book-keeping."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Claim, Owner
from embedding_worker.rows.schema import prepare
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, source_config

STATUS = "SELECT source, table_name, total, fresh, due, blank, backfilling FROM embedding_operator.status"
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
    for table in (keeper.statements.marks, keeper.statements.state, "businesses"):
        businesses.run(f"DROP TABLE {table}")
    assert businesses.run("SELECT due FROM embedding_operator.status") == [(None,)]


async def test_another_version_replaces_them(keeper: Keeper, businesses: Application) -> None:
    businesses.run("DROP VIEW embedding_operator.status")
    businesses.run("CREATE VIEW embedding_operator.status AS SELECT 1 AS other")
    await prepare(keeper.database, source_config())
    assert businesses.run("SELECT count(*) FROM embedding_operator.status") == [(1,)]
    assert businesses.run(STATUS)


async def test_a_source_is_set_up_also_where_they_cannot_be_created(keeper: Keeper, businesses: Application) -> None:
    businesses.run("DROP VIEW embedding_operator.status")
    businesses.run("CREATE TABLE embedding_operator.status (other int)")
    await prepare(keeper.database, source_config())
    assert businesses.run("SELECT relkind::text FROM pg_class WHERE relname = 'status'") == [("r",)]
