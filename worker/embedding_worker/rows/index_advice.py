"""Advises about approximate indexes on the vector column: dropping one before a fill of many rows, and building one afterwards.

One statement reads the catalog; the decisions are pure. Called by `embedding-operator check` and `plan`, and by the operator at
the begin and at the end of a backfill. Nothing here creates or drops an index.
"""

from dataclasses import dataclass

from embedding_worker.rows.database import Database
from embedding_worker.rows.table import qualified, quoted
from embedding_worker.rows.vector_sizes import MOST_INDEXED_DIMENSIONS
from embedding_worker.source import SourceConfig, TableColumn

MANY_ROWS = 10_000
"""With fewer rows a fill is short beside an index, and a search without one is fast."""
METHODS = ("hnsw", "ivfflat", "diskann", "vchordrq")

# $1 schema, $2 table, $3 column → one line for each index on the column, and one with nulls if there is none.
INDEX_FACTS = f"""
SELECT (SELECT coalesce(sum(r.reltuples), 0)::bigint FROM pg_class r WHERE r.reltuples > 0 AND r.relkind = 'r'
        AND r.oid IN (SELECT c.oid UNION SELECT p.relid FROM pg_partition_tree(c.oid) p)),
    c.relkind = 'p', coalesce(b.typname, t.typname)::text, v.nspname::text, k.oid::regclass::text, m.amname::text,
    pg_get_indexdef(k.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $3 AND NOT a.attisdropped
LEFT JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
LEFT JOIN (pg_extension e JOIN pg_namespace v ON v.oid = e.extnamespace) ON e.extname = 'vector'
LEFT JOIN (pg_index i JOIN pg_class k ON k.oid = i.indexrelid JOIN pg_am m ON m.oid = k.relam
           JOIN pg_attribute o ON o.attrelid = i.indrelid)
    ON i.indrelid IN (SELECT c.oid UNION SELECT p.relid FROM pg_partition_tree(c.oid) p)
    AND NOT k.relispartition AND m.amname::text IN ({", ".join(f"'{method}'" for method in METHODS)}) AND o.attname = $3
    AND (o.attnum = ANY (i.indkey) OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid = o.attnum))
WHERE n.nspname = $1 AND c.relname = $2 ORDER BY 5
"""


@dataclass(frozen=True)
class VectorIndex:
    name: str
    """In SQL, with its schema."""
    method: str
    definition: str
    """The statement that creates it."""


@dataclass(frozen=True)
class IndexFacts:
    """What the catalog says about the indexes on a vector column."""

    rows: int = 0
    """Of the table, about: PostgreSQL's estimate, 0 if it was never analysed."""
    partitioned: bool = False
    vector_type: str | None = None
    """The name of the column's type; None if the column is still to be added."""
    vector_schema: str | None = None
    """Of pgvector; None if it is not installed."""
    indexes: tuple[VectorIndex, ...] = ()
    """On the vector column, also such that are not valid."""


async def read_index_facts(database: Database, at: TableColumn) -> IndexFacts:
    """The indexes on the vector column; none if the table does not exist. Raises DatabaseUnavailable."""
    async with database.transaction(quoting=True) as transaction:
        rows = await transaction.fetch(INDEX_FACTS, at.schema, at.table, at.embedding_column)
    if not rows:
        return IndexFacts()
    estimate, partitioned, vector_type, schema = rows[0][:4]
    indexes = tuple(VectorIndex(*row[4:]) for row in rows if row[4] is not None)
    return IndexFacts(estimate, partitioned, vector_type, schema, indexes)


def index_advice(config: SourceConfig, facts: IndexFacts, *, rows: int, due: int) -> str | None:
    """What to do about indexes if the table has so many rows, and so many of them are due; None if all is well."""
    if due >= MANY_ROWS:
        return before_fill(facts)
    return after_fill(config, facts) if rows >= MANY_ROWS else None


def before_fill(facts: IndexFacts) -> str | None:
    """Advice to drop the indexes on the column, in one sentence; None if there is none."""
    if not facts.indexes:
        return None
    names = ", ".join(f"{index.name} ({index.method})" for index in facts.indexes)
    concurrently = "" if facts.partitioned else "CONCURRENTLY "
    drops = " ".join(f"DROP INDEX {concurrently}{index.name};" for index in facts.indexes)
    creates = " ".join(f"{_create_again(index, facts)};" for index in facts.indexes)
    return (
        f"writes of vectors are about ten times slower beside {names}: if no search needs it until the fill is complete, "
        f"run {drops} and afterwards {creates}"
    )


def _create_again(index: VectorIndex, facts: IndexFacts) -> str:
    """PostgreSQL does not create an index on a partitioned table concurrently."""
    if facts.partitioned:
        return index.definition.replace(" ON ONLY ", " ON ", 1)
    return index.definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)


def after_fill(config: SourceConfig, facts: IndexFacts) -> str | None:
    """Advice to build an index on the column, in one sentence; None if there is one, or none can be built."""
    indexed = None if facts.indexes else _indexed(config, facts)
    if indexed is None:
        return None
    expression, note = indexed
    concurrently = "" if facts.partitioned else "CONCURRENTLY "
    sql = f"CREATE INDEX {concurrently}ON {qualified(config.at)} USING hnsw ({expression})"
    return f"without an index each search reads the whole table: as its owner run {sql};{note}"


def _indexed(config: SourceConfig, facts: IndexFacts) -> tuple[str, str] | None:
    """What an HNSW index is built on, and what searches must know; None for arrays, and for too many dimensions."""
    if facts.vector_schema is None:
        return None
    schema, column = quoted(facts.vector_schema), quoted(config.at.embedding_column)
    kind, dimensions = facts.vector_type or "vector", config.model.dimensions
    if dimensions <= MOST_INDEXED_DIMENSIONS.get(kind, 0):
        return f"{column} {schema}.{kind}_cosine_ops", " and order searches by <=>"
    if kind == "vector" and dimensions <= MOST_INDEXED_DIMENSIONS["halfvec"]:
        cast = f"{column}::{schema}.halfvec({dimensions})"
        return f"({cast}) {schema}.halfvec_cosine_ops", f" and order searches by {cast} <=> the query"
    return None
