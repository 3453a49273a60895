"""docs/install.md, "Remove it": its SQL removes everything that preparation created, and leaves the user's table intact."""

from pathlib import Path

import psycopg
import pytest

from embedding_worker.rows.database import Database
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.documented_sql import ROLE, sql_blocks, statements
from tests.support.kept_rows import BUSINESSES, Application, Keeper, source_config

PAGE = (Path(__file__).parents[3] / "docs" / "install.md").read_text()
TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.businesses'::regclass AND NOT tgisinternal"
OF_OURS = """
SELECT oid::regclass::text FROM pg_class WHERE relnamespace = to_regnamespace('embedding_operator')
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace('embedding_operator')
"""
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname = 'embedding_operator'"


def run_all(url: str, *wanted: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in wanted:
            connection.execute(statement.encode())


@pytest.mark.parametrize("granted", ["CREATE on the database", "a schema of its own"])
@pytest.mark.parametrize("remover", ["the operator's role", "a superuser"])
async def test_the_documented_sql_removes_all_of_it(
    database_server: DatabaseServer, database: GivenDatabase, granted: str, remover: str
) -> None:
    owner = Application(database.url)
    owner.run(BUSINESSES.replace(", embedding vector(3)", ""))
    owner.run("INSERT INTO businesses (name) VALUES ('one'), ('two')")
    role, password = database_server.create_role()
    url = database.url_for(role, password)
    for statement in statements(sql_blocks(PAGE, "1. The database")[0], role=role, database=database.name):
        if statement.startswith("CREATE ROLE"):
            continue  # it exists, with a password that is not known here
        if statement.startswith("GRANT CREATE") and granted == "a schema of its own":
            statement = f"CREATE SCHEMA embedding_operator AUTHORIZATION {role}"
        owner.run(statement.replace("vector(768)", "vector(3)"))
    async with Database(url, max_connections=2) as rows:
        keeper = await Keeper.prepare(rows, source_config())
        assert await keeper.audit() == 2
        assert await keeper.keep() == 2
    assert len(owner.run(TRIGGERS)) == 2
    assert owner.run(OF_OURS) != []

    with_rows, rest = sql_blocks(PAGE, "Remove it")
    run_all(
        url if remover == "the operator's role" else database.url,
        *statements(with_rows, role=role, database=database.name),
    )
    assert owner.run(TRIGGERS) == owner.run(OF_OURS) == owner.run(SCHEMAS) == []
    assert owner.run("SELECT count(embedding) FROM businesses") == [(2,)]
    owner.run("UPDATE businesses SET name = 'new'")

    run_all(database.url, *statements(rest, role=role, database=database.name))
    assert owner.run("SELECT * FROM businesses LIMIT 1") == [(1, "new", None, None)]
    assert owner.run("SELECT 1 FROM pg_roles WHERE rolname = %s", role) == []


async def test_a_table_in_use_is_not_waited_for_and_loses_nothing(
    businesses: Application, database: GivenDatabase, rows: Database
) -> None:
    """The removal fails as a whole and can be tried again."""
    await Keeper.prepare(rows, source_config())
    with_rows, _ = sql_blocks(PAGE, "Remove it")
    with businesses.transaction() as open_transaction:
        open_transaction.execute("INSERT INTO businesses (name) VALUES ('one')")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            run_all(database.url, *statements(with_rows, role=ROLE, database=database.name))
    assert len(businesses.run(TRIGGERS)) == 2
