"""A dump can be restored in each usual way, the application writes to the result, and nothing is embedded again unasked."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from embedding_worker.rows.database import Database
from embedding_worker.rows.pause import pause_triggers
from hack.database.embedded_postgres import EmbeddedPostgres
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.kept_rows import Application, Keeper, Oracle
from tests.support.owned_table import OwnedTable, owned_table
from tests.support.postgres_programs import dump, restore


@pytest.fixture
async def owned(database: GivenDatabase, database_server: DatabaseServer) -> OwnedTable:
    """Rows 1 to 3 are fresh, and row 2 was edited since."""
    made = owned_table(database, database_server)
    made.admin.run("INSERT INTO businesses (id, name) VALUES (2, 'two'), (3, 'three')")
    async with made.rows() as rows:
        keeper = await Keeper.prepare(rows, made.config)
        await keeper.audit()
        assert await keeper.keep() == 3
    made.admin.run("UPDATE businesses SET name = 'two, edited' WHERE id = 2")
    return made


@pytest.fixture
def target(database_server: DatabaseServer) -> Iterator[Application]:
    created = database_server.create_database("restored")
    yield Application(created.url)
    database_server.drop_database(created.name)


@pytest.fixture
def other_server() -> Iterator[Application]:
    """A server that has none of the roles."""
    with EmbeddedPostgres() as server:
        yield Application(server.url)


@asynccontextmanager
async def keeping(owned: OwnedTable, application: Application) -> AsyncIterator[tuple[Keeper, Oracle]]:
    """The operator on the restored database, as the role that restored it."""
    async with Database(application.url, max_connections=2) as rows:
        yield await Keeper.prepare(rows, owned.config), Oracle(application, owned.config)


async def write_and_keep(owned: OwnedTable, target: Application, *, due: int) -> None:
    """The application writes one row; with it, so many rows are embedded, and all are right."""
    target.run("INSERT INTO businesses (id, name) VALUES (7, 'new')")
    async with keeping(owned, target) as (keeper, oracle):
        await keeper.audit()
        assert await keeper.keep() == due
        assert oracle.wrong() == []


@pytest.mark.parametrize("options", [(), ("--no-owner",), ("--no-owner", "--no-privileges"), ("--single-transaction",)])
async def test_a_whole_database_is_restored_with_its_book_keeping(
    owned: OwnedTable, target: Application, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = restore(target.url, dump(owned.admin.url, tmp_path / "dump"), "--exit-on-error", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert Oracle(target, owned.config).marks() == ["2"]
    await write_and_keep(owned, target, due=2)


async def test_a_whole_database_is_restored_where_its_roles_are_missing(
    owned: OwnedTable, other_server: Application, tmp_path: Path
) -> None:
    done = restore(other_server.url, dump(owned.admin.url, tmp_path / "dump"))
    assert f'role "{owned.operator}" does not exist' in done.stderr
    await write_and_keep(owned, other_server, due=2)


async def test_the_operators_role_of_the_restored_database_may_be_another_one(
    owned: OwnedTable, target: Application, tmp_path: Path, database_server: DatabaseServer
) -> None:
    """With the rights that the documents name, on objects that belong to the role that restored them."""
    restore(target.url, dump(owned.admin.url, tmp_path / "dump"), "--no-owner", "--no-privileges")
    role, password = database_server.create_role("later")
    for statement in (
        f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO "{role}"',
        f'GRANT USAGE ON SCHEMA public TO "{role}"',
        f'ALTER SCHEMA embedding_operator OWNER TO "{role}"',
    ):
        target.run(statement)
    ours = "relnamespace = 'embedding_operator'::regnamespace AND relkind = 'r'"
    tables = target.run(f"SELECT oid::regclass::text FROM pg_class WHERE {ours}")
    for (table,) in tables:
        target.run(f'ALTER TABLE {table} OWNER TO "{role}"')
    target.run("INSERT INTO businesses (id, name) VALUES (7, 'new')")
    later = Application(target.url.replace("postgres@", f"{role}:{password}@"))
    async with keeping(owned, later) as (keeper, _):
        await keeper.audit()
        assert await keeper.keep() == 2
    assert Oracle(target, owned.config).wrong() == []


async def test_a_dump_of_one_schema_is_restored_without_the_triggers(
    owned: OwnedTable, target: Application, tmp_path: Path
) -> None:
    """Only the two triggers are missing. All rows are embedded again, because the book-keeping was not dumped."""
    done = restore(target.url, dump(owned.admin.url, tmp_path / "dump", "--schema=public"))
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert [error for error in errors if "embedding_operator" not in error and "already exists" not in error] == []
    assert target.run("SELECT count(*) FROM businesses") == [(3,)]
    await write_and_keep(owned, target, due=4)


async def test_a_dump_of_both_schemas_is_restored_as_a_whole(
    owned: OwnedTable, target: Application, tmp_path: Path
) -> None:
    file = dump(owned.admin.url, tmp_path / "dump", "--schema=public", "--schema=embedding_operator")
    restore(target.url, file)
    assert Oracle(target, owned.config).marks() == ["2"]
    await write_and_keep(owned, target, due=2)


async def test_with_paused_triggers_a_dump_of_one_schema_is_restored_without_an_error(
    owned: OwnedTable, target: Application, tmp_path: Path
) -> None:
    async with owned.rows() as rows:
        await pause_triggers(rows, owned.config.at)
    file = dump(owned.admin.url, tmp_path / "dump", "--table=public.businesses")
    done = restore(target.url, file, "--exit-on-error")
    assert (done.returncode, done.stderr) == (0, "")
    await write_and_keep(owned, target, due=4)


@pytest.mark.parametrize("options", [(), ("--disable-triggers",)])
async def test_schema_and_data_are_restored_one_after_the_other(
    owned: OwnedTable, target: Application, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The triggers may fire while the data are loaded: the rows are marked, and found to be right."""
    schema = dump(owned.admin.url, tmp_path / "schema", "--schema-only")
    data = dump(owned.admin.url, tmp_path / "data", "--data-only", *options)
    for file in (schema, data):
        done = restore(target.url, file, "--exit-on-error", *(options if file == data else ()))
        assert (done.returncode, done.stderr) == (0, "")
    await write_and_keep(owned, target, due=2)


async def test_a_table_that_is_loaded_from_a_dump_with_older_vectors_gets_new_ones(
    owned: OwnedTable, tmp_path: Path
) -> None:
    """The dump has a vector of the text before the last edit, which the book-keeping does not know."""
    file = dump(owned.admin.url, tmp_path / "data", "--data-only", "--table=public.businesses")
    async with owned.rows() as rows:
        keeper = await Keeper.prepare(rows, owned.config)
        assert await keeper.keep() == 1
        owned.admin.run("TRUNCATE businesses")
        assert restore(owned.admin.url, file).returncode == 0
        assert await keeper.keep() == 1
    assert owned.oracle.wrong() == []
