"""Advice about indexes on the vectors: its SQL can be run, drops what slows a fill, and builds what searches need."""

import re

import pytest

from embedding_worker.rows.database import Database
from embedding_worker.rows.index_advice import MANY_ROWS, IndexFacts, index_advice, read_index_facts
from embedding_worker.source import Model, SourceConfig
from tests.support.kept_rows import Application, source_config

TABLE = "CREATE TABLE public.businesses (id bigint PRIMARY KEY, name text, {column})"
PARTITIONED = """
CREATE TABLE public.businesses (id bigint PRIMARY KEY, name text, embedding vector(3)) PARTITION BY RANGE (id);
"""
DEFINITIONS = "SELECT indexdef FROM pg_indexes WHERE indexdef ~ 'hnsw|ivfflat' ORDER BY indexdef"


def config(dimensions: int = 3, embedding_column: str = "embedding") -> SourceConfig:
    return source_config(model=Model("fake", "fake", dimensions), embedding_column=embedding_column)


def statements(advice: str | None) -> list[str]:
    """The SQL that the advice names, statement by statement."""
    assert advice is not None
    return re.findall(r"(?:DROP|CREATE) INDEX [^;]+(?=;)", advice)


async def facts_of(rows: Database, wanted: SourceConfig) -> IndexFacts:
    return await read_index_facts(rows, wanted.at)


@pytest.mark.parametrize(
    ("column", "index"),
    [
        ("embedding vector(3)", "hnsw (embedding vector_cosine_ops) WITH (m = 8)"),
        ("embedding vector(3)", "hnsw ((embedding::halfvec(3)) halfvec_l2_ops) WHERE name <> ''"),
        ("embedding halfvec(3)", "ivfflat (embedding halfvec_ip_ops)"),
    ],
    ids=["plain", "on an expression", "ivfflat"],
)
async def test_before_a_fill_an_index_is_dropped_and_created_again_as_it_was(
    application: Application, rows: Database, column: str, index: str
) -> None:
    application.run(TABLE.format(column=column))
    application.run(f'CREATE INDEX "By Vector" ON public.businesses USING {index}')
    before = application.run(DEFINITIONS)
    drop, create = statements(index_advice(config(), await facts_of(rows, config()), rows=MANY_ROWS, due=MANY_ROWS))
    application.run(drop)
    assert application.run(DEFINITIONS) == []
    application.run(create)
    assert application.run(DEFINITIONS) == before
    assert "CONCURRENTLY" in drop
    assert "CONCURRENTLY" in create


async def test_an_index_of_a_partitioned_table_is_dropped_and_created_again_with_its_parts(
    application: Application, rows: Database
) -> None:
    application.run(PARTITIONED)
    application.run("CREATE TABLE public.first PARTITION OF public.businesses FOR VALUES FROM (0) TO (100)")
    application.run("CREATE INDEX near ON public.businesses USING hnsw (embedding vector_cosine_ops)")
    before = application.run(DEFINITIONS)
    assert len(before) == 2
    drop, create = statements(index_advice(config(), await facts_of(rows, config()), rows=MANY_ROWS, due=MANY_ROWS))
    application.run(drop)
    application.run(create)
    assert application.run(DEFINITIONS) == before


@pytest.mark.parametrize(
    ("column", "dimensions", "built_on"),
    [
        ("embedding vector(3)", 3, "(embedding vector_cosine_ops)"),
        ("embedding halfvec(4000)", 4_000, "(embedding halfvec_cosine_ops)"),
        ("embedding vector(2001)", 2_001, "(((embedding)::halfvec(2001)) halfvec_cosine_ops)"),
    ],
    ids=["vector", "halfvec", "a vector with many dimensions"],
)
async def test_after_a_fill_the_index_that_is_advised_can_be_built(
    application: Application, rows: Database, column: str, dimensions: int, built_on: str
) -> None:
    application.run(TABLE.format(column=column))
    wanted = config(dimensions)
    (create,) = statements(index_advice(wanted, await facts_of(rows, wanted), rows=MANY_ROWS, due=MANY_ROWS - 1))
    application.run(create)
    ((definition,),) = application.run(DEFINITIONS)
    assert definition.endswith(f"USING hnsw {built_on}")
    assert index_advice(wanted, await facts_of(rows, wanted), rows=MANY_ROWS, due=0) is None


async def test_a_partitioned_table_gets_an_index_without_concurrently(application: Application, rows: Database) -> None:
    application.run(PARTITIONED)
    (create,) = statements(index_advice(config(), await facts_of(rows, config()), rows=MANY_ROWS, due=0))
    application.run(create)
    assert len(application.run(DEFINITIONS)) == 1


@pytest.mark.parametrize(
    ("column", "dimensions"),
    [("embedding vector(4001)", 4_001), ("embedding halfvec(4001)", 4_001), ("embedding real[]", 3)],
)
async def test_where_no_index_can_be_built_none_is_advised(
    application: Application, rows: Database, column: str, dimensions: int
) -> None:
    application.run(TABLE.format(column=column))
    wanted = config(dimensions)
    assert index_advice(wanted, await facts_of(rows, wanted), rows=MANY_ROWS, due=0) is None


async def test_a_column_that_is_still_to_be_added_has_the_advice_of_a_vector(
    application: Application, rows: Database
) -> None:
    application.run(TABLE.format(column="phone text"))
    (create,) = statements(index_advice(config(), await facts_of(rows, config()), rows=MANY_ROWS, due=0))
    assert create.endswith('USING hnsw ("embedding" "public".vector_cosine_ops)')


async def test_indexes_of_other_columns_and_of_other_kinds_are_left_alone(
    businesses: Application, rows: Database
) -> None:
    businesses.run("ALTER TABLE public.businesses ADD COLUMN other vector(3)")
    businesses.run("CREATE INDEX ON public.businesses USING hnsw (other vector_cosine_ops)")
    businesses.run("CREATE INDEX ON public.businesses (name)")
    assert (await facts_of(rows, config())).indexes == ()
    assert len((await facts_of(rows, config(embedding_column="other"))).indexes) == 1


async def test_a_column_whose_type_is_a_domain_is_what_it_is_made_of(application: Application, rows: Database) -> None:
    application.run("CREATE DOMAIN public.meaning AS halfvec(3)")
    application.run(TABLE.format(column="embedding meaning"))
    assert (await facts_of(rows, config())).vector_type == "halfvec"


async def test_a_table_that_does_not_exist_has_no_indexes_and_no_error(rows: Database) -> None:
    assert await facts_of(rows, config()) == IndexFacts()


@pytest.mark.parametrize(("total", "due"), [(MANY_ROWS - 1, 0), (0, 0)])
async def test_a_small_table_needs_no_index(businesses: Application, rows: Database, total: int, due: int) -> None:
    assert index_advice(config(), await facts_of(rows, config()), rows=total, due=due) is None


async def test_a_large_fill_without_an_index_is_left_as_it_is(businesses: Application, rows: Database) -> None:
    assert index_advice(config(), await facts_of(rows, config()), rows=MANY_ROWS, due=MANY_ROWS) is None
