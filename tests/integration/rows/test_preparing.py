"""A source is accepted and set up, on whatever table it may have, and the whole round works there."""

from dataclasses import dataclass

import pytest

from embedding_worker.rows.database import Database
from embedding_worker.rows.schema import prepare
from embedding_worker.source import SourceConfig
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle, source_config

IDS = {
    "bigint": ["-9223372036854775808", "0", "9223372036854775807"],
    "integer": ["-2147483648", "0", "2147483647"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    "text": [
        "",
        "  ",
        "O'Hara",
        'sa"y',
        "a,b",
        "{x}",
        "NULL",
        "back\\slash",
        "UPPER",
        "upper",
        "%s $1",
        "鮨処 まつ葉",
        "a\nb",
    ],
}
VECTORS = ["vector", "vector(3)", "halfvec(3)", "real[]", "double precision[]"]


async def whole_round(application: Application, keeper: Keeper, oracle: Oracle, rows: int) -> None:
    """The rows that were there are found by the audit and become fresh; an edit of each marks it, and it does so again."""
    assert await keeper.audit() == rows
    assert await keeper.keep() == rows
    assert oracle.wrong() == []
    application.run(f"UPDATE {keeper.statements.table} SET name = name || ' new'")
    assert len(oracle.wrong()) == rows
    assert await keeper.keep() == rows
    assert oracle.wrong() == []
    assert oracle.marks() == []
    assert set(oracle.states()) == set(oracle.vectors())


@pytest.mark.parametrize("vector_type", VECTORS)
@pytest.mark.parametrize("id_type", IDS)
async def test_every_id_type_and_every_vector_type_is_kept(
    application: Application, keep: Keep, id_type: str, vector_type: str
) -> None:
    application.run(f"CREATE TABLE businesses (id {id_type} PRIMARY KEY, name text, embedding {vector_type})")
    for row_id in IDS[id_type]:
        application.run(f"INSERT INTO businesses VALUES (%s::{id_type}, %s)", row_id, f"name of {row_id}")
    keeper, oracle = await keep()
    await whole_round(application, keeper, oracle, len(IDS[id_type]))


async def test_a_text_id_may_have_a_collation_of_its_own(application: Application, keep: Keep) -> None:
    application.run('CREATE TABLE businesses (id text COLLATE "C" PRIMARY KEY, name text, embedding vector(3))')
    application.run("INSERT INTO businesses SELECT i, 'name ' || i FROM unnest(ARRAY['b', 'A', 'ä', 'B', 'a']) i")
    keeper, oracle = await keep()
    assert await keeper.audit(page=2) == 5
    assert await keeper.keep() == 5
    assert oracle.wrong() == []


async def test_an_id_may_be_unique_without_being_the_primary_key(application: Application, keep: Keep) -> None:
    application.run(
        "CREATE TABLE businesses (key int PRIMARY KEY, id uuid NOT NULL UNIQUE, name text, embedding vector(3))"
    )
    application.run("INSERT INTO businesses VALUES (1, gen_random_uuid(), 'one'), (2, gen_random_uuid(), 'two')")
    keeper, oracle = await keep()
    await whole_round(application, keeper, oracle, 2)


async def test_a_missing_column_is_added(application: Application, keep: Keep) -> None:
    application.run("CREATE TABLE businesses (id bigint PRIMARY KEY, name text)")
    application.run("INSERT INTO businesses VALUES (1, 'one')")
    keeper, oracle = await keep()
    made = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'embedding'"
    assert application.run(made) == [("vector(3)",)]
    await whole_round(application, keeper, oracle, 1)


async def test_a_missing_column_is_an_array_where_there_is_no_pgvector(application: Application, keep: Keep) -> None:
    application.run("DROP EXTENSION vector")
    application.run("CREATE TABLE businesses (id bigint PRIMARY KEY, name text)")
    application.run("INSERT INTO businesses VALUES (1, 'one')")
    keeper, oracle = await keep()
    assert application.run("SELECT pg_typeof(embedding)::text FROM businesses") == [("real[]",)]
    await whole_round(application, keeper, oracle, 1)


async def test_pgvector_may_be_in_any_schema(application: Application, keep: Keep) -> None:
    application.run('DROP EXTENSION vector; CREATE SCHEMA "Ex tensions"; CREATE EXTENSION vector SCHEMA "Ex tensions"')
    application.run('CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding "Ex tensions".halfvec(3))')
    application.run("INSERT INTO businesses VALUES (1, 'one')")
    keeper, oracle = await keep()
    await whole_round(application, keeper, oracle, 1)


@dataclass(frozen=True)
class Names:
    schema: str
    table: str
    id_column: str
    embedding_column: str


@pytest.mark.parametrize(
    "names",
    [
        Names("Yellow Book", "Our Businesses", "The Id", "The Vector"),
        Names('sche"ma', 'ta"ble', 'i"d', 'vec"tor'),
        Names("sche'ma", "ta'ble", "i'd", "vec'tor"),
        Names("電話帳", "店舗", "番号", "ベクトル"),
        Names("select", "table", "order", "user"),
        Names("s" * 63, "t" * 63, "i" * 63, "v" * 63),
        Names("100%", "{braces}", "$1", "a.b"),
    ],
    ids=lambda names: names.schema[:12],
)
async def test_any_name_that_postgresql_accepts_works(application: Application, keep: Keep, names: Names) -> None:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    table = f"{quoted(names.schema)}.{quoted(names.table)}"
    application.run(f"CREATE SCHEMA {quoted(names.schema)}")
    application.run(
        f"CREATE TABLE {table} ({quoted(names.id_column)} bigint PRIMARY KEY, name text, "
        f"{quoted(names.embedding_column)} vector(3))"
    )
    application.run(f"INSERT INTO {table} VALUES (1, 'one'), (2, 'two')")
    keeper, oracle = await keep(
        names.table, schema=names.schema, id_column=names.id_column, embedding_column=names.embedding_column
    )
    await whole_round(application, keeper, oracle, 2)
    assert (await keeper.store.counts()).total == 2


async def test_the_same_table_name_in_two_schemas_is_two_tables(application: Application, keep: Keep) -> None:
    for schema in ("one", "two"):
        application.run(f"CREATE SCHEMA {schema}")
        application.run(f"CREATE TABLE {schema}.businesses (id bigint PRIMARY KEY, name text, embedding vector(3))")
        application.run(f"INSERT INTO {schema}.businesses VALUES (1, 'in {schema}')")
    for schema in ("one", "two"):
        keeper, oracle = await keep(schema=schema)
        await whole_round(application, keeper, oracle, 1)


async def test_two_columns_of_one_table_are_kept_side_by_side(businesses: Application, keep: Keep) -> None:
    businesses.run("ALTER TABLE businesses ADD COLUMN other real[]")
    businesses.run("INSERT INTO businesses (name, description) VALUES ('name', 'description')")
    first, first_oracle = await keep(text="name")
    second, second_oracle = await keep(text="description", embedding_column="other")
    for keeper in (first, second):
        await keeper.audit()
        assert await keeper.keep() == 1
    businesses.run("UPDATE businesses SET description = 'new'")
    assert (first_oracle.wrong(), second_oracle.wrong()) == ([], ["1"])
    assert (await first.keep(), await second.keep()) == (0, 1)
    assert (first_oracle.wrong(), second_oracle.wrong()) == ([], [])


@pytest.mark.parametrize("by", ["HASH (id)", "RANGE (id)"])
async def test_a_partitioned_table_is_kept(application: Application, keep: Keep, by: str) -> None:
    application.run(
        f"CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding vector(3)) PARTITION BY {by}"
    )
    for n in (0, 1):
        bounds = f"WITH (modulus 2, remainder {n})" if "HASH" in by else f"FROM ({n * 50}) TO ({n * 50 + 50})"
        application.run(f"CREATE TABLE part_{n} PARTITION OF businesses FOR VALUES {bounds}")
    application.run("INSERT INTO businesses SELECT i, 'name ' || i FROM generate_series(1, 99) i")
    keeper, oracle = await keep()
    await whole_round(application, keeper, oracle, 99)
    assert (await keeper.store.counts()).total == 99


async def test_a_row_that_moves_to_another_partition_is_kept(application: Application, keep: Keep) -> None:
    application.run(
        "CREATE TABLE businesses (id int PRIMARY KEY, name text, embedding vector(3)) PARTITION BY RANGE (id)"
    )
    application.run("CREATE TABLE low PARTITION OF businesses FOR VALUES FROM (0) TO (100)")
    application.run("CREATE TABLE high PARTITION OF businesses FOR VALUES FROM (100) TO (200)")
    keeper, oracle = await keep()
    application.run("INSERT INTO businesses VALUES (1, 'one')")
    await keeper.keep()
    application.run("UPDATE businesses SET id = 101, name = 'moved'")
    assert oracle.marks() == ["101"]
    await keeper.keep()
    assert oracle.wrong() == []


async def test_a_partition_that_is_attached_later_is_kept(application: Application, keep: Keep) -> None:
    application.run(
        "CREATE TABLE businesses (id int PRIMARY KEY, name text, embedding vector(3)) PARTITION BY RANGE (id)"
    )
    keeper, oracle = await keep()
    application.run("CREATE TABLE later (id int PRIMARY KEY, name text, embedding vector(3))")
    application.run("INSERT INTO later VALUES (1, 'one'), (2, 'two')")
    application.run("ALTER TABLE businesses ATTACH PARTITION later FOR VALUES FROM (0) TO (100)")
    await whole_round(application, keeper, oracle, 2)


async def test_a_table_that_was_dropped_and_made_again_is_kept_again(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    businesses.run("INSERT INTO businesses (name) VALUES ('of the first table')")
    await keeper.keep()
    businesses.run("DROP TABLE businesses")
    businesses.run("CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding vector(3))")
    keeper, oracle = await keep()
    businesses.run("INSERT INTO businesses VALUES (1, 'of the first table'), (2, 'new')")
    assert await keeper.keep() == 2
    assert oracle.wrong() == []


async def test_what_is_prepared_tells_how_it_is_kept(businesses: Application, rows: Database) -> None:
    config: SourceConfig = source_config()
    kept = (await prepare(rows, config)).statements.layout
    assert (kept.id_type, kept.vector_type, kept.owned, kept.column_missing) == (
        "bigint",
        '"public"."vector"',
        True,
        False,
    )
