"""Decides from the catalog's facts whether the operator can serve a user's table, and which ids its rows can have.

Called by schema.py, which reads the facts (TABLE_FACTS), and by store.py. Pure. Every refusal is one sentence that names the
value and the remedy.
"""

import re
import uuid
from dataclasses import dataclass

from embedding_worker.errors import SourceRefused
from embedding_worker.source import TableColumn

ID_TYPES = {"int8": "bigint", "int4": "integer", "uuid": "uuid", "text": "text"}
INTEGER_BITS = {"bigint": 64, "integer": 32}
CANONICAL_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
VECTOR_TYPES = {"vector", "halfvec"}
ARRAY_TYPES = {"_float4": "real[]", "_float8": "double precision[]"}

# One index probe each on the catalogs: a millisecond, once when a source appears or changes.
TABLE_FACTS = """
SELECT c.oid::bigint, c.relkind::text, pg_has_role(c.relowner, 'USAGE'),
       has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'TRIGGER'),
       has_schema_privilege(n.oid, 'USAGE'), has_database_privilege(current_database(), 'TEMPORARY')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
"""
COLUMN_FACTS = """
SELECT a.attname::text, a.attnum::int, t.typname::text, tn.nspname::text, a.atttypmod, a.attnotnull, a.attgenerated <> '',
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indimmediate
               AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum),
       has_column_privilege(a.attrelid, a.attnum, 'UPDATE')
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
"""
VECTOR_SCHEMA = """
SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
"""


@dataclass(frozen=True)
class TableFacts:
    oid: int
    kind: str
    """pg_class.relkind: 'r' a table, 'p' a partitioned one, others are refused."""
    owned: bool
    may_select: bool
    may_trigger: bool
    may_enter: bool
    """USAGE on the table's schema."""
    may_probe: bool
    """TEMPORARY on the database: a text expression is inspected through a temporary view."""


@dataclass(frozen=True)
class ColumnFacts:
    name: str
    number: int
    type_name: str
    type_schema: str
    type_modifier: int
    """For pgvector, the dimensions; -1 if none were given."""
    not_null: bool
    generated: bool
    unique: bool
    may_update: bool


@dataclass(frozen=True)
class TableLayout:
    """What the statements need to know of a table that was accepted."""

    oid: int
    owned: bool
    may_trigger: bool
    id_type: str
    vector_type: str
    """The qualified SQL name of the type that a vector is cast to."""
    column_missing: bool
    """The embedding column is still to be added."""
    search_path: str = "pg_catalog"
    """The path under which statements on the user's rows run, as set_config takes it: the application's own, then the table's
    schema."""
    only: bool = True
    """A plain table is read and written without its children. False for a partitioned one, whose rows are in its partitions."""
    row_security: bool = False
    """Policies let the role see and write every row. Otherwise statements run with row_security off, and fail if one applies."""


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def binary_form(vector_type: str) -> str:
    """The function that gives a vector's binary form, for a type of TableLayout.vector_type."""
    if vector_type.endswith("[]"):
        return "pg_catalog.array_send"
    schema, _, name = vector_type.rpartition(".")
    return f"{schema}.{quoted(name.strip(chr(34)) + '_send')}"


def can_be_id(id_type: str, text: str) -> bool:
    """Whether a column of this type (a value of ID_TYPES) can hold an id that PostgreSQL writes as this very text.

    Only the canonical form counts: ids are compared as text, so that '007' is no row's id although it casts to 7.
    """
    if id_type in INTEGER_BITS:
        limit = 2 ** (INTEGER_BITS[id_type] - 1)
        return bool(CANONICAL_INTEGER.fullmatch(text)) and -limit <= int(text) < limit
    if id_type == "uuid":
        return _is_canonical_uuid(text)
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _is_canonical_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def accept_table(
    at: TableColumn,
    dimensions: int,
    table: TableFacts | None,
    columns: dict[str, ColumnFacts],
    vector_schema: str | None,
) -> TableLayout:
    """The layout of a table that can be served. Raises SourceRefused with the first reason why it can't be."""
    if table is None:
        raise SourceRefused(
            "TableMissing", f"table {at} does not exist in this database: correct spec.table, or create it"
        )
    if table.kind not in ("r", "p"):
        raise SourceRefused("NotATable", f"{at} is no table (a view, or foreign): name the table that holds the rows")
    if not table.may_enter:
        raise SourceRefused(
            "Forbidden",
            f"the operator's role may not enter schema {at.schema}: GRANT USAGE ON SCHEMA {quoted(at.schema)} TO it",
        )
    if not table.may_probe:
        raise SourceRefused(
            "Forbidden",
            "the operator's role may not create the temporary view that it needs to check spec.text: "
            "GRANT TEMPORARY ON DATABASE to it",
        )
    if not table.may_select:
        raise SourceRefused("Forbidden", f"the operator's role may not read {at}: GRANT SELECT ON {at} TO it")
    id_type = _id_type(at, columns)
    embedding = columns.get(at.embedding_column)
    if embedding is None:
        if not table.owned:
            wanted = f"vector({dimensions})" if vector_schema else "real[]"
            raise SourceRefused(
                "ColumnMissing",
                f"{at} has no column {at.embedding_column!r}, and the operator's role may not add it: "
                f"ALTER TABLE {at} ADD COLUMN {quoted(at.embedding_column)} {wanted}",
            )
        made = f"{quoted(vector_schema)}.vector" if vector_schema else "real[]"
        return TableLayout(table.oid, table.owned, table.may_trigger, id_type, made, column_missing=True)
    vector_type = _vector_type(at, dimensions, embedding)
    if not embedding.may_update:
        column = quoted(at.embedding_column)
        raise SourceRefused(
            "Forbidden",
            f"the operator's role may not write {at}.{embedding.name}: GRANT UPDATE ({column}) ON {at} TO it",
        )
    return TableLayout(table.oid, table.owned, table.may_trigger, id_type, vector_type, column_missing=False)


def _id_type(at: TableColumn, columns: dict[str, ColumnFacts]) -> str:
    column = columns.get(at.id_column)
    if column is None:
        raise SourceRefused(
            "ColumnMissing",
            f"{at} has no column {at.id_column!r}: set spec.idColumn in a new source, to one of its columns",
        )
    if column.type_name not in ID_TYPES or column.type_schema != "pg_catalog":
        raise SourceRefused(
            "IdTypeUnsupported",
            f"{at}.{column.name} is {column.type_name}: an id must be bigint, integer, uuid or text",
        )
    if not column.not_null:
        raise SourceRefused(
            "IdNullable",
            f"{at}.{column.name} may be null: ALTER TABLE {at} ALTER COLUMN {quoted(column.name)} SET NOT NULL",
        )
    if not column.unique:
        raise SourceRefused(
            "IdNotUnique", f"{at}.{column.name} has no unique index of its own: name the primary key, or create one"
        )
    return ID_TYPES[column.type_name]


def _vector_type(at: TableColumn, dimensions: int, column: ColumnFacts) -> str:
    if column.generated:
        raise SourceRefused(
            "ColumnGenerated", f"{at}.{column.name} is a generated column: name one that can be written"
        )
    if column.type_name in VECTOR_TYPES:
        if column.type_modifier not in (-1, dimensions):
            raise SourceRefused(
                "WrongDimensions",
                f"{at}.{column.name} holds {column.type_modifier} dimensions, the model gives {dimensions}: "
                "set spec.model.dimensions, or name another spec.embeddingColumn in a new source",
            )
        return f"{quoted(column.type_schema)}.{quoted(column.type_name)}"
    if column.type_name in ARRAY_TYPES and column.type_schema == "pg_catalog":
        return ARRAY_TYPES[column.type_name]
    raise SourceRefused(
        "ColumnTypeUnsupported",
        f"{at}.{column.name} is {column.type_name}: a vector needs vector({dimensions}), halfvec({dimensions}), "
        "real[] or double precision[]",
    )
