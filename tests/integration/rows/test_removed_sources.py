"""What `kubectl embeddings remove` prints, run by an administrator in psql: nothing is left, and the table can be altered."""

import json
from pathlib import Path

import psycopg
import pytest

from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Claim, Owner
from embedding_worker.rows.schema import prepare
from embedding_worker.source import SourceConfig
from hack.database.embedded_postgres import installed_programs
from hack.database.postgres import Database as GivenDatabase
from hack.processes.run import run_to_end
from kubectl_embeddings.removal_script import script
from tests.support.kept_rows import Application, Keeper, source_config

PLAIN = 'CREATE TABLE {table} (id bigint PRIMARY KEY, name text, "Vec tor" vector(3))'
PARTITIONED = (
    'CREATE TABLE {table} (id bigint PRIMARY KEY, name text, "Vec tor" vector(3)) PARTITION BY RANGE (id);'
    "CREATE TABLE public.low PARTITION OF {table} FOR VALUES FROM (0) TO (100);"
    "CREATE TABLE public.high PARTITION OF {table} FOR VALUES FROM (100) TO (200)"
)
UID = "uid-1"
STOP = "--set=ON_ERROR_STOP=1"
TRIGGERS = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
OBJECTS = """
SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('embedding_operator')
UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = to_regnamespace('embedding_operator')
"""
WITH_RECORDS = """
SELECT attrelid::regclass::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attname = 'bookkeeping' AND c.relkind = 'r' AND c.relnamespace = 'embedding_operator'::regnamespace
"""


def in_psql(url: str, text: str, *options: str) -> str:
    """What it prints to the standard error."""
    command: list[str | Path] = [installed_programs() / "psql", url, "--no-psqlrc", *options]
    done = run_to_end(command, within_s=60, stdin=text)
    assert done.returncode == 0, done.stderr
    return done.stderr


def left(administrator: Application, config: SourceConfig) -> list[str]:
    """The objects and the records of a source, wherever they are."""
    stem = config.at.bookkeeping_name
    found = [name for (name,) in administrator.run(OBJECTS) if name.startswith(stem)]
    found += [name for (name,) in administrator.run(TRIGGERS) if name.startswith(stem)]
    for (table,) in administrator.run(WITH_RECORDS):
        found += [table for _ in administrator.run(f"SELECT 1 FROM {table} WHERE bookkeeping = %s", stem)]
    return found


def add_records(administrator: Application, config: SourceConfig) -> None:
    """A row in each table that has records of sources, whatever its other columns are."""
    stem = config.at.bookkeeping_name
    for (table,) in administrator.run(WITH_RECORDS):
        columns = administrator.run(
            "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = %s::regclass "
            "AND attnum > 0 AND attnotnull AND NOT atthasdef AND attidentity = '' AND attname <> 'bookkeeping'",
            table,
        )
        values = {name: "2026-03-01" if kind in ("date", "timestamp with time zone") else "1" for name, kind in columns}
        row = json.dumps(values | {"bookkeeping": stem})
        names = ", ".join(f'"{name}"' for name in ("bookkeeping", *values))
        administrator.run(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_record(NULL::{table}, %s) "
            "ON CONFLICT DO NOTHING",
            row,
        )


@pytest.mark.parametrize("create", [PLAIN, PARTITIONED], ids=["plain", "partitioned"])
async def test_nothing_of_the_source_is_left_and_its_neighbour_keeps_all(
    database: GivenDatabase, rows: Database, create: str
) -> None:
    administrator = Application(database.url)
    administrator.run("CREATE TABLE public.neighbour (id bigint PRIMARY KEY, name text, embedding vector(3))")
    name = 'it\'s "quo\nted"'
    with psycopg.connect(database.url, autocommit=True) as connection:
        for statement in create.split(";"):
            quoted = '"' + name.replace('"', '""') + '"'
            connection.execute(statement.format(table=f"public.{quoted}").encode())
    config, neighbour = source_config(name, embedding_column="Vec tor"), source_config("neighbour")
    for of in (neighbour, config):
        keeper = await Keeper.prepare(rows, of)
        administrator.run(f"INSERT INTO {keeper.statements.table} (id, name) VALUES (7, 'one'), (107, 'two')")
        assert await keeper.keep() == 2
        add_records(administrator, of)
    kept = left(administrator, neighbour)
    assert {"embedding_operator.sources", "embedding_operator.usage"} <= set(left(administrator, config))

    in_psql(database.url, script(config.at, "shops", "yellow-book", UID), STOP)

    assert left(administrator, config) == []
    assert left(administrator, neighbour) == kept
    table = keeper.statements.table
    assert administrator.run(f'SELECT count("Vec tor") FROM {table}') == [(2,)]
    administrator.run(f'ALTER TABLE {table} ALTER COLUMN name TYPE varchar(20), DROP COLUMN "Vec tor"')
    administrator.run(f"UPDATE {table} SET name = 'new'")
    in_psql(database.url, script(config.at, "shops", "yellow-book", UID), STOP)


async def test_what_another_source_has_taken_over_since_stays_even_where_psql_goes_on_after_an_error(
    database: GivenDatabase, rows: Database
) -> None:
    administrator, config = Application(database.url), source_config("shops")
    administrator.run("CREATE TABLE public.shops (id bigint PRIMARY KEY, name text, embedding vector(3))")
    await prepare(rows, config, Claim(Owner("yellow-book", "shops", UID)))
    kept = left(administrator, config)
    new = Owner("new", "shops", "uid-2")
    await prepare(rows, config, Claim(new, f"yellow-book/shops/{UID}/1"))

    said = in_psql(database.url, script(config.at, "shops", "yellow-book", UID))

    assert "nothing is removed: EmbeddingSource new/shops, uid uid-2, owns it" in said
    assert left(administrator, config) == kept
    assert [name for name in kept if name.endswith("_mark")]
    in_psql(database.url, script(config.at, "shops", "new", new.uid), STOP)
    assert left(administrator, config) == []
