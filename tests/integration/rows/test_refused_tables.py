"""A table that can't be served is refused in one sentence, with the value and the remedy; nothing is created in the database."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.database import Database
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, source_config


@dataclass(frozen=True)
class Case:
    """A table, what the source says of it, and the refusal."""

    table: str
    reason: str
    sentence: str
    source: dict[str, Any] = field(default_factory=dict)


def columns(id_column: str = "id bigint PRIMARY KEY", embedding: str = "embedding vector(3)") -> str:
    return f"CREATE TABLE businesses ({id_column}, name text, {embedding})"


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
    "a view": Case(
        "CREATE VIEW businesses AS SELECT 1::bigint AS id, '' AS name, NULL::vector(3) AS embedding",
        "NotATable",
        "public.businesses is no table (a view, or foreign): name the table that holds the rows",
    ),
    "a materialized view": Case(
        "CREATE MATERIALIZED VIEW businesses AS SELECT 1::bigint AS id, '' AS name, NULL::vector(3) AS embedding",
        "NotATable",
        "public.businesses is no table (a view, or foreign): name the table that holds the rows",
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
    "a smallint id": Case(
        columns("id smallint PRIMARY KEY"),
        "IdTypeUnsupported",
        "public.businesses.id is int2: an id must be bigint, integer, uuid or text",
    ),
    "a varchar id": Case(
        columns("id varchar PRIMARY KEY"),
        "IdTypeUnsupported",
        "public.businesses.id is varchar: an id must be bigint, integer, uuid or text",
    ),
    "an id of a type that is only called uuid": Case(
        "CREATE DOMAIN public.uuid AS pg_catalog.uuid; " + columns("id public.uuid PRIMARY KEY"),
        "IdTypeUnsupported",
        "public.businesses.id is uuid: an id must be bigint, integer, uuid or text",
    ),
    "a nullable id": Case(
        columns("id bigint UNIQUE"),
        "IdNullable",
        'public.businesses.id may be null: ALTER TABLE public.businesses ALTER COLUMN "id" SET NOT NULL',
    ),
    "an id that is not unique": Case(
        columns("id bigint NOT NULL"),
        "IdNotUnique",
        "public.businesses.id has no unique index of its own: name the primary key, or create one",
    ),
    "an id that is unique with another column only": Case(
        "CREATE TABLE businesses (id bigint, tenant int, name text, embedding vector(3), PRIMARY KEY (id, tenant))",
        "IdNotUnique",
        "public.businesses.id has no unique index of its own: name the primary key, or create one",
    ),
    "an id that is unique for some rows only": Case(
        columns("id bigint NOT NULL") + "; CREATE UNIQUE INDEX ON businesses (id) WHERE name <> ''",
        "IdNotUnique",
        "public.businesses.id has no unique index of its own: name the primary key, or create one",
    ),
    "an id that is unique at commit only": Case(
        columns("id bigint NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED"),
        "IdNotUnique",
        "public.businesses.id has no unique index of its own: name the primary key, or create one",
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
    "an embedding column of text": Case(
        columns(embedding="embedding text"),
        "ColumnTypeUnsupported",
        "public.businesses.embedding is text: a vector needs vector(3), halfvec(3), real[] or double precision[]",
    ),
    "a sparse vector": Case(
        columns(embedding="embedding sparsevec(3)"),
        "ColumnTypeUnsupported",
        "public.businesses.embedding is sparsevec: a vector needs vector(3), halfvec(3), real[] or double precision[]",
    ),
    "an array of whole numbers": Case(
        columns(embedding="embedding integer[]"),
        "ColumnTypeUnsupported",
        "public.businesses.embedding is _int4: a vector needs vector(3), halfvec(3), real[] or double precision[]",
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


RIGHTS = {
    "no privilege to read": (
        "GRANT UPDATE, TRIGGER ON businesses TO {role}",
        "Forbidden",
        "the operator's role may not read public.businesses: GRANT SELECT ON public.businesses TO it",
    ),
    "a privilege to read some columns": (
        "GRANT SELECT (id, name), UPDATE, TRIGGER ON businesses TO {role}",
        "Forbidden",
        "the operator's role may not read public.businesses: GRANT SELECT ON public.businesses TO it",
    ),
    "no privilege to write": (
        "GRANT SELECT, TRIGGER ON businesses TO {role}",
        "Forbidden",
        "the operator's role may not write public.businesses.embedding: "
        'GRANT UPDATE ("embedding") ON public.businesses TO it',
    ),
    "a privilege to write another column": (
        "GRANT SELECT, TRIGGER, UPDATE (name) ON businesses TO {role}",
        "Forbidden",
        "the operator's role may not write public.businesses.embedding: "
        'GRANT UPDATE ("embedding") ON public.businesses TO it',
    ),
    "no privilege to add the column": (
        "ALTER TABLE businesses DROP COLUMN embedding; GRANT SELECT, TRIGGER, UPDATE ON businesses TO {role}",
        "ColumnMissing",
        "public.businesses has no column 'embedding', and the operator's role may not add it: "
        'ALTER TABLE public.businesses ADD COLUMN "embedding" vector(3)',
    ),
}


@pytest.mark.parametrize("name", RIGHTS)
async def test_the_refusal_of_a_role_names_what_to_grant_it(
    businesses: Application, database: GivenDatabase, database_server: DatabaseServer, name: str
) -> None:
    granted, reason, sentence = RIGHTS[name]
    role, password = database_server.create_role("refused")
    businesses.run(granted.format(role=f'"{role}"'))
    async with Database(database.url_for(role, password), max_connections=1) as rows:
        with pytest.raises(SourceRefused) as refused:
            await Keeper.prepare(rows, source_config())
    assert (refused.value.reason, refused.value.message) == (reason, sentence)


async def test_a_schema_that_may_not_be_entered_is_named(
    application: Application, database: GivenDatabase, database_server: DatabaseServer
) -> None:
    role, password = database_server.create_role("outside")
    application.run("CREATE SCHEMA inside")
    application.run("CREATE TABLE inside.businesses (id bigint PRIMARY KEY, name text, embedding vector(3))")
    application.run(f'GRANT SELECT, TRIGGER, UPDATE ON inside.businesses TO "{role}"')
    async with Database(database.url_for(role, password), max_connections=1) as rows:
        with pytest.raises(SourceRefused, match=r"may not enter schema inside: GRANT USAGE ON SCHEMA .* TO it"):
            await Keeper.prepare(rows, source_config(schema="inside"))


async def test_a_database_where_no_temporary_view_may_be_created_is_reported(
    businesses: Application, database: GivenDatabase, database_server: DatabaseServer
) -> None:
    role, password = database_server.create_role("hardened")
    businesses.run(f'REVOKE ALL ON DATABASE "{database.name}" FROM PUBLIC')
    businesses.run(f'GRANT CONNECT, CREATE ON DATABASE "{database.name}" TO "{role}"')
    businesses.run(f'GRANT SELECT, TRIGGER, UPDATE ON businesses TO "{role}"')
    async with Database(database.url_for(role, password), max_connections=1) as rows:
        with pytest.raises(SourceRefused, match="GRANT TEMPORARY ON DATABASE to it"):
            await Keeper.prepare(rows, source_config())
