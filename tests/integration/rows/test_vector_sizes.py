"""The sizes that are foretold for a vector column and its HNSW index are those that PostgreSQL and pgvector need."""

import pytest

from embedding_worker.rows.vector_sizes import column_bytes, hnsw_bytes
from hack.database.postgres import Database
from tests.support.kept_rows import Application

ROWS = 400
FILL = """
INSERT INTO sized SELECT g, (SELECT array_agg(sin(g * x)) FROM generate_series(1, {dimensions}) x)::real[]::{kind}
FROM generate_series(1, {rows}) g"""


@pytest.mark.parametrize(
    ("kind", "dimensions"),
    [("vector", 256), ("vector", 768), ("vector", 1_536), ("vector", 2_000), ("halfvec", 768), ("halfvec", 3_072)],
)
def test_a_column_and_its_index_are_about_as_large_as_is_foretold(
    database: Database, kind: str, dimensions: int
) -> None:
    application = Application(database.url)
    application.run(f"CREATE TABLE sized (id int, v {kind}({dimensions}))")
    application.run(FILL.format(kind=kind, dimensions=dimensions, rows=ROWS))
    application.run(f"CREATE INDEX sized_v ON sized USING hnsw (v {kind}_cosine_ops)")
    ((table, index),) = application.run("SELECT pg_table_size('sized'), pg_relation_size('sized_v')")
    assert table == pytest.approx(column_bytes(kind, dimensions, ROWS), rel=0.25)
    assert index == pytest.approx(hnsw_bytes(kind, dimensions, ROWS), rel=0.05)
