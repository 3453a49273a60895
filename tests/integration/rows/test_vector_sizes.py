"""The sizes that are foretold for a vector column and its HNSW index are those that PostgreSQL and pgvector need."""

import pytest

from embedding_worker.rows.vector_sizes import column_bytes, hnsw_bytes
from hack.database.postgres import Database
from tests.support.kept_rows import Application

ROWS = 400
FILL = """
INSERT INTO sized SELECT g, (SELECT array_agg(sin(g * x)) FROM generate_series(1, {dimensions}) x)::{kind}
FROM generate_series(1, {rows}) g"""

# Without the free space map, whose three pages are much beside so few rows.
TABLE_BYTES = """
pg_relation_size('sized') + (SELECT coalesce(sum(pg_relation_size(r)), 0) FROM pg_class c, LATERAL (
    SELECT c.reltoastrelid::regclass UNION ALL SELECT indexrelid::regclass FROM pg_index WHERE indrelid = c.reltoastrelid) t(r)
    WHERE c.oid = 'sized'::regclass AND c.reltoastrelid <> 0)"""


@pytest.mark.parametrize(
    ("kind", "dimensions"),
    [
        *(("vector", dimensions) for dimensions in (256, 768, 1_024, 1_280, 1_536, 2_000)),
        *(("halfvec", dimensions) for dimensions in (768, 2_560, 3_072)),
    ],
)
def test_a_column_and_its_index_are_about_as_large_as_is_foretold(
    database: Database, kind: str, dimensions: int
) -> None:
    application = Application(database.url)
    application.run(f"CREATE TABLE sized (id int, v {kind}({dimensions}))")
    application.run(FILL.format(kind=kind, dimensions=dimensions, rows=ROWS))
    application.run(f"CREATE INDEX sized_v ON sized USING hnsw (v {kind}_cosine_ops)")
    ((table, index),) = application.run(f"SELECT {TABLE_BYTES}, pg_relation_size('sized_v')")
    assert table == pytest.approx(column_bytes(kind, dimensions, ROWS), rel=0.2)
    assert index == pytest.approx(hnsw_bytes(kind, dimensions, ROWS), rel=0.05)


@pytest.mark.parametrize(
    ("kind", "dimensions"),
    [("vector", 2_560), ("vector", 3_072), ("real[]", 768), ("double precision[]", 512), ("double precision[]", 1_536)],
)
def test_a_column_without_an_index_is_about_as_large_as_is_foretold(
    database: Database, kind: str, dimensions: int
) -> None:
    application = Application(database.url)
    application.run(f"CREATE TABLE sized (id int, v {kind if kind.endswith('[]') else f'{kind}({dimensions})'})")
    application.run(FILL.format(kind=kind, dimensions=dimensions, rows=ROWS))
    ((table,),) = application.run(f"SELECT {TABLE_BYTES}")
    assert table == pytest.approx(column_bytes(kind, dimensions, ROWS), rel=0.2)
