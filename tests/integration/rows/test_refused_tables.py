"""A table that can't be served is refused in one sentence, with the value and the remedy; nothing is created in the database."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.database import Database
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, run, source_config


@dataclass(frozen=True)
class Case:
    """A table, what the source says of it, and the refusal."""

    table: str
    reason: str
    sentence: str
    source: dict[str, Any] = field(default_factory=dict)


def columns(id_column: str = "id bigint PRIMARY KEY", embedding: str = "embedding vector(3)") -> str:
    return f"CREATE TABLE businesses ({id_column}, name text, {embedding})"


NO_UNIQUE_INDEX = 'name the primary key, or CREATE UNIQUE INDEX ON "public"."businesses" ("id")'
ANOTHER_ID = (
    'for example one that you add with ALTER TABLE "public"."businesses" ADD COLUMN embedding_id bigint '
    "GENERATED ALWAYS AS IDENTITY UNIQUE"
)
FOUR_TYPES = "a vector needs vector(3), halfvec(3), real[] or double precision[]"


def unsupported(declared: str) -> str:
    return (
        f"public.businesses.id is {declared}, and an id must be bigint, integer, smallint, uuid, text, varchar, char or a domain "
        f"over one of them: set spec.idColumn in a new source to such a column, {ANOTHER_ID}"
    )


def other_id(before: str, declared: str, shown: str | None = None) -> Case:
    return Case(f"{before}{columns(f'id {declared} PRIMARY KEY')}", "IdTypeUnsupported", unsupported(shown or declared))


def not_unique(table: str, found: str = "") -> Case:
    return Case(table, "IdNotUnique", f"public.businesses.id has no unique index of its own{found}: {NO_UNIQUE_INDEX}")


def not_a_table(made: str, sentence: str, **source: Any) -> Case:
    return Case(made, "NotATable", f"public.businesses {sentence}", source)


ROW = "SELECT 1::bigint AS id, '' AS name, NULL::vector(3) AS embedding"
NAME_THE_TABLE = "and not a table: name the table that holds the rows"
PARTITIONED = "CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding real[]) PARTITION BY RANGE (id)"
SERVER = "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far"

CASES = {
    "no table": Case(
        "SELECT 1",
        "TableMissing",
        "table public.businesses does not exist in this database: correct spec.table, or create it",
    ),
    "a table of another schema": Case(
        "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.businesses (id bigint PRIMARY KEY)",
        "TableMissing",
        "table public.businesses does not exist in this database: correct spec.table, or create it",
    ),
    "another spelling": Case(
        columns(),
        "TableMissing",
        "table public.Businesses does not exist in this database: correct spec.table, or create it",
        {"table": "Businesses"},
    ),
    "a view": not_a_table(f"CREATE VIEW businesses AS {ROW}", f"is a view, {NAME_THE_TABLE}"),
    "a materialized view": not_a_table(
        f"CREATE MATERIALIZED VIEW businesses AS {ROW}", f"is a materialized view, {NAME_THE_TABLE}"
    ),
    "a foreign table": not_a_table(
        f"{SERVER}; CREATE FOREIGN TABLE businesses (id bigint, name text, embedding real[]) SERVER far",
        f"is a foreign table, {NAME_THE_TABLE}",
    ),
    "a sequence": not_a_table("CREATE SEQUENCE businesses", f"is a sequence, {NAME_THE_TABLE}"),
    "a composite type": not_a_table(
        "CREATE TYPE businesses AS (id bigint, name text)", f"is a composite type, {NAME_THE_TABLE}"
    ),
    "an index": not_a_table(
        "CREATE TABLE others (id bigint); CREATE INDEX businesses ON others (id)", f"is an index, {NAME_THE_TABLE}"
    ),
    "a foreign table as a partition": not_a_table(
        f"{PARTITIONED}; {SERVER}; CREATE TABLE near PARTITION OF businesses FOR VALUES FROM (0) TO (10); "
        "ALTER TABLE businesses DROP CONSTRAINT businesses_pkey; "
        'CREATE FOREIGN TABLE "Far" PARTITION OF businesses FOR VALUES FROM (10) TO (20) SERVER far',
        'has the foreign table public."Far" as a partition, whose rows can\'t be locked: name the partitions that are tables, '
        "each in a source of its own, or detach it",
    ),
    "a table that others inherit from": Case(
        columns() + '; CREATE TABLE shops () INHERITS (businesses); CREATE TABLE "Bars" () INHERITS (businesses)',
        "HasChildTables",
        'public.businesses has tables that inherit from it (public."Bars", public.shops), whose rows may have the same ids: '
        "make a source for each of these tables on a table without children, or use partitions",
    ),
    "a rule that does more than an update": Case(
        columns() + '; CREATE RULE "Log it" AS ON UPDATE TO businesses DO ALSO NOTIFY changed',
        "HasRules",
        "public.businesses has rules that rewrite an UPDATE, so that no vector can be written: replace them by a trigger, and "
        'DROP RULE "Log it" ON "public"."businesses"',
    ),
    "a rule that does something in place of an update": Case(
        columns() + "; CREATE RULE keep AS ON UPDATE TO businesses WHERE OLD.name = 'kept' DO INSTEAD NOTHING",
        "HasRules",
        "public.businesses has rules that rewrite an UPDATE, so that no vector can be written: replace them by a trigger, and "
        'DROP RULE keep ON "public"."businesses"',
    ),
    "no id column": Case(
        columns(),
        "ColumnMissing",
        "public.businesses has no column 'key': set spec.idColumn in a new source, to one of its columns",
        {"id_column": "key"},
    ),
    "an id column that was dropped": Case(
        "CREATE TABLE businesses (id bigint PRIMARY KEY, name text); ALTER TABLE businesses DROP COLUMN id",
        "ColumnMissing",
        "public.businesses has no column 'id': set spec.idColumn in a new source, to one of its columns",
    ),
    "a system column as id": Case(
        columns(),
        "ColumnMissing",
        "public.businesses has no column 'ctid': set spec.idColumn in a new source, to one of its columns",
        {"id_column": "ctid"},
    ),
    "a numeric id": other_id("", "numeric", "numeric"),
    "a numeric id with a precision": other_id("", "numeric(12,0)"),
    "a bytea id": other_id("", "bytea"),
    "a timestamp id": other_id("", "timestamp with time zone"),
    "a range id": other_id("", "int4range"),
    "an id of type name": other_id("", "name"),
    "an enum id": other_id("CREATE TYPE kind AS ENUM ('bar', 'shop'); ", "kind", "public.kind"),
    "an id of a type that is only called uuid": other_id(
        "CREATE TYPE public.uuid AS ENUM ('one'); ", "public.uuid", "public.uuid"
    ),
    "an id of a domain over a numeric": other_id(
        "CREATE DOMAIN inner_key AS numeric; CREATE DOMAIN key AS inner_key; ", "key", "public.key"
    ),
    "a nullable id": Case(
        columns("id bigint UNIQUE"),
        "IdNullable",
        'public.businesses.id may be null: ALTER TABLE "public"."businesses" ALTER COLUMN "id" SET NOT NULL',
    ),
    "an id that is not unique": not_unique(columns("id bigint NOT NULL")),
    "an id that is unique with another column only": not_unique(
        "CREATE TABLE businesses (id bigint, tenant int, name text, embedding vector(3), PRIMARY KEY (id, tenant))",
        " (businesses_pkey is on other columns too)",
    ),
    "an id that is unique for some rows only": not_unique(
        columns("id bigint NOT NULL") + "; CREATE UNIQUE INDEX few ON businesses (id) WHERE name <> ''",
        " (few covers some rows only)",
    ),
    "an id that is unique at commit only": not_unique(
        columns("id bigint NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED"), " (businesses_id_key is deferrable)"
    ),
    "an id that is unique in another form only": not_unique(
        columns("id text NOT NULL") + '; CREATE UNIQUE INDEX "Low" ON businesses (lower(id))',
        ' ("Low" is on an expression)',
    ),
    "an id whose index is not valid": not_unique(
        columns("id bigint NOT NULL") + "; CREATE UNIQUE INDEX part ON businesses (id); "
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'part'::regclass",
        " (part is not valid)",
    ),
    "an id of a partitioned table that is unique with its partition key only": Case(
        "CREATE TABLE businesses (id bigint, opened date, name text, embedding real[], PRIMARY KEY (id, opened)) "
        "PARTITION BY RANGE (opened)",
        "IdNotUnique",
        "public.businesses.id has no unique index of its own (businesses_pkey is on other columns too): "
        "make a source for each partition that has such an index, or partition the table by its id",
    ),
    "an id whose collation ignores cases": Case(
        # Marked by hand, because not every server is built with ICU, which alone has such collations.
        "CREATE COLLATION lax (provider = libc, locale = 'C'); "
        + columns("id text COLLATE lax PRIMARY KEY")
        + "; UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'lax'",
        "IdCollationUnsupported",
        "public.businesses.id has a collation in which different ids are equal: set spec.idColumn in a new source to a column "
        f"with a deterministic collation, {ANOTHER_ID}",
    ),
    "a generated embedding column": Case(
        columns(embedding="embedding real[] GENERATED ALWAYS AS (ARRAY[1, 2, 3]::real[]) STORED"),
        "ColumnGenerated",
        "public.businesses.embedding is a generated column: name one that can be written",
    ),
    "other dimensions": Case(
        columns(embedding="embedding vector(4)"),
        "WrongDimensions",
        "public.businesses.embedding holds 4 dimensions, the model gives 3: "
        "set spec.model.dimensions, or name another spec.embeddingColumn in a new source",
    ),
    "other dimensions of a halfvec": Case(
        columns(embedding="embedding halfvec(4)"),
        "WrongDimensions",
        "public.businesses.embedding holds 4 dimensions, the model gives 3: "
        "set spec.model.dimensions, or name another spec.embeddingColumn in a new source",
    ),
    "other dimensions of a domain": Case(
        "CREATE DOMAIN inner_vector AS vector(4); CREATE DOMAIN outer_vector AS inner_vector; "
        + columns(embedding="embedding outer_vector"),
        "WrongDimensions",
        "public.businesses.embedding holds 4 dimensions, the model gives 3: "
        "set spec.model.dimensions, or name another spec.embeddingColumn in a new source",
    ),
    "an embedding column of text": Case(
        columns(embedding="embedding text"),
        "ColumnTypeUnsupported",
        f"public.businesses.embedding is text: {FOUR_TYPES}",
    ),
    "a sparse vector": Case(
        columns(embedding="embedding sparsevec(3)"),
        "ColumnTypeUnsupported",
        f"public.businesses.embedding is public.sparsevec(3): {FOUR_TYPES}",
    ),
    "a bit string": Case(
        columns(embedding="embedding bit(3)"),
        "ColumnTypeUnsupported",
        f"public.businesses.embedding is bit(3): {FOUR_TYPES}",
    ),
    "a type that is only called vector": Case(
        "CREATE SCHEMA own; CREATE TYPE own.vector AS ENUM ('none'); " + columns(embedding="embedding own.vector"),
        "ColumnTypeUnsupported",
        f"public.businesses.embedding is own.vector: {FOUR_TYPES}",
    ),
    "an array of whole numbers": Case(
        columns(embedding="embedding integer[]"),
        "ColumnTypeUnsupported",
        f"public.businesses.embedding is integer[]: {FOUR_TYPES}",
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_table_that_cannot_be_served_is_refused_with_the_remedy(
    application: Application, keep: Keep, name: str
) -> None:
    case = CASES[name]
    application.run(case.table)
    with pytest.raises(SourceRefused) as refused:
        await keep(**case.source)
    assert (refused.value.reason, refused.value.message) == (case.reason, case.sentence)
    assert application.run("SELECT to_regnamespace('embedding_operator')") == [(None,)]


async def test_a_temporary_table_is_refused(application: Application, rows: Database) -> None:
    with application.transaction() as connection:
        run(connection, "CREATE TEMP TABLE businesses (id bigint PRIMARY KEY, name text, embedding real[])")
        (schema,) = run(
            connection, "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'businesses'"
        )[0]
        connection.commit()
        with pytest.raises(SourceRefused) as refused:
            await Keeper.prepare(rows, source_config(schema=schema))
    assert refused.value.message == (
        f"{schema}.businesses is a temporary table, which one session alone can read: name a permanent table"
    )


async def test_a_table_of_postgresql_itself_is_refused(keep: Keep) -> None:
    with pytest.raises(SourceRefused, match=r"^pg_catalog\.pg_description belongs to PostgreSQL itself: name a table"):
        await keep("pg_description", schema="pg_catalog", id_column="objoid")


async def test_an_id_whose_not_null_was_never_validated_is_refused(application: Application, keep: Keep) -> None:
    if application.run("SELECT current_setting('server_version_num')::int")[0][0] < 18_00_00:
        pytest.skip("NOT NULL constraints that are not valid came with PostgreSQL 18")
    application.run(columns("id bigint UNIQUE"))
    application.run("INSERT INTO businesses (name) VALUES ('without an id')")
    application.run("ALTER TABLE businesses ADD CONSTRAINT later NOT NULL id NOT VALID")
    with pytest.raises(SourceRefused, match=r"^public\.businesses\.id may be null: "):
        await keep()


TABLE = '"Yellow ""Book"""."Vip"'
REMEDIES = {
    "a null": ("id bigint UNIQUE", "may be null: (.*)$", {}),
    "two rows": ("id bigint NOT NULL", "name the primary key, or (.*)$", {}),
    "another type": ("id numeric(9, 2) PRIMARY KEY", "that you add with (.*)$", {"id_column": "embedding_id"}),
    "rules": (
        'id bigint PRIMARY KEY); CREATE RULE "On update" AS ON UPDATE TO {table} DO INSTEAD NOTHING; CREATE TABLE other (id int',
        "replace them by a trigger, and (.*)$",
        {},
    ),
}


@pytest.mark.parametrize("name", REMEDIES)
async def test_the_statement_that_a_refusal_proposes_is_enough(application: Application, keep: Keep, name: str) -> None:
    declared, sentence, then = REMEDIES[name]
    application.run('CREATE SCHEMA "Yellow ""Book"""')
    application.run(f"CREATE TABLE {TABLE} (name text, embedding real[], {declared.format(table=TABLE)})")
    application.run(f"INSERT INTO {TABLE} (id, name) VALUES (1, 'one')")
    source: dict[str, Any] = {"table": "Vip", "schema": 'Yellow "Book"'}
    with pytest.raises(SourceRefused, match=sentence) as refused:
        await keep(**source)
    statement = re.search(sentence, refused.value.message)
    assert statement is not None
    application.run(statement[1])
    keeper, oracle = await keep(**source | then)
    await keeper.audit()
    assert (await keeper.keep(), oracle.wrong()) == (1, [])
