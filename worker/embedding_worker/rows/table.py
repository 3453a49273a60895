"""Decides from the catalog's facts whether the operator can serve a user's table, and which ids its rows can have.

Called by inspection.py, which reads the facts (table_facts.py), and by store.py. Pure. Every refusal is one sentence that names
the value and the remedy. rights.py decides which rights are missing.
"""

import re
import uuid
from dataclasses import dataclass

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.table_facts import ColumnFacts, TableFacts, VectorExtension
from embedding_worker.source import TableColumn

ID_TYPES = {
    "int8": "bigint",
    "int4": "integer",
    "int2": "smallint",
    "uuid": "uuid",
    "text": "text",
    "varchar": "text",  # PostgreSQL compares both as text; a cast to varchar(n) would cut a longer id
    "bpchar": "bpchar",
}
INTEGER_BITS = {"bigint": 64, "integer": 32, "smallint": 16}
CERTAIN_DIGITS = {"bigint": 19, "integer": 10, "smallint": 5}
"""Any integer with fewer digits fits into the type."""
CANONICAL_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
VECTOR_TYPES = {"vector", "halfvec"}
ARRAY_TYPES = {"_float4": "real[]", "_float8": "double precision[]"}
KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a composite type",
    "i": "an index",
    "I": "an index",
}


@dataclass(frozen=True)
class TableLayout:
    """What the statements need to know of a table that was accepted."""

    oid: int
    owned: bool
    id_type: str
    """The type to cast a text to, so that it is compared with the id column and its index is used."""
    vector_type: str
    """The qualified SQL name of the type that a vector is cast to."""
    column_missing: bool
    """The embedding column is still to be added."""
    search_path: str = "pg_catalog"
    """The path under which statements on the user's rows run, as set_config takes it: the application's own, then the table's
    schema."""
    only: bool = True
    """A plain table is read and written without its children. False for a partitioned one, whose rows are in its partitions."""
    policies: str = ""
    """Of a table with row_security: the policies that were inspected, see POLICIES."""
    row_security: bool = False
    """Policies let the role see and write every row. Otherwise statements run with row_security off, and fail if one applies."""


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def qualified(at: TableColumn) -> str:
    """The table's name in SQL, whatever its letters are."""
    return f"{quoted(at.schema)}.{quoted(at.table)}"


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
        if len(text) < CERTAIN_DIGITS[id_type] and text.isascii() and text.isdigit() and not text.startswith("0"):
            return True  # most ids: asked several times for each row
        limit = 2 ** (INTEGER_BITS[id_type] - 1)
        return bool(CANONICAL_INTEGER.fullmatch(text)) and -limit <= int(text) < limit
    if id_type == "uuid":
        return _is_canonical_uuid(text)
    if id_type == "bpchar" and text.endswith(" "):  # padding, which its text form does not have
        return False
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
    vector: VectorExtension | None,
) -> TableLayout:
    """The layout of a table that can be served, whatever the role's rights are. Raises SourceRefused with the first reason why it
    can't be.
    """
    if table is None:
        raise SourceRefused(
            "TableMissing", f"table {at} does not exist in this database: correct spec.table, or create it"
        )
    _refuse_other_relations(at, table)
    _refuse_inheritance_and_rules(at, table)
    id_type = _id_type(at, table, columns)
    embedding = columns.get(at.embedding_column)
    if embedding is not None:
        vector_type = _vector_type(at, dimensions, embedding)
    else:
        vector_type = f"{quoted(vector.schema)}.{quoted('vector')}" if vector else "real[]"
    if table.row_security and (table.restrictive_policies or not table.sees_all):
        raise _rows_hidden(at, table)
    return TableLayout(
        table.oid,
        table.owned,
        id_type,
        vector_type,
        column_missing=embedding is None,
        only=table.kind == "r",
        row_security=table.row_security,
    )


def _refuse_other_relations(at: TableColumn, table: TableFacts) -> None:
    if table.kind not in ("r", "p"):
        kind = KINDS.get(table.kind, "another object")
        raise SourceRefused("NotATable", f"{at} is {kind}, and not a table: name the table that holds the rows")
    if table.system:
        raise SourceRefused("NotATable", f"{at} belongs to PostgreSQL itself: name a table of your own")
    if table.temporary:
        raise SourceRefused(
            "NotATable", f"{at} is a temporary table, which one session alone can read: name a permanent table"
        )
    if table.foreign_partitions:
        raise SourceRefused(
            "NotATable",
            f"{at} has the foreign table {', '.join(table.foreign_partitions)} as a partition, whose rows can't be locked: "
            "name the partitions that are tables, each in a source of its own, or detach it",
        )


def _refuse_inheritance_and_rules(at: TableColumn, table: TableFacts) -> None:
    if table.children:
        raise SourceRefused(
            "HasChildTables",
            f"{at} has tables that inherit from it ({', '.join(table.children)}), whose rows may have the same ids: "
            "make a source for each of these tables on a table without children, or use partitions",
        )
    if table.update_rules:
        drops = "; ".join(f"DROP RULE {rule} ON {qualified(at)}" for rule in table.update_rules)
        raise SourceRefused(
            "HasRules",
            f"{at} has rules that rewrite an UPDATE, so that no vector can be written: replace them by a trigger, and {drops}",
        )


def _rows_hidden(at: TableColumn, table: TableFacts) -> SourceRefused:
    role = quoted(table.role)
    bypass = f"as a superuser ALTER ROLE {role} BYPASSRLS"
    if table.restrictive_policies:
        return SourceRefused(
            "RowSecurityActive",
            f"restrictive policies of {at} ({', '.join(table.restrictive_policies)}) may hide rows from role {role}: {bypass}",
        )
    policy = f"CREATE POLICY embedding_operator ON {qualified(at)} TO {role} USING (true)"
    return SourceRefused(
        "RowSecurityActive",
        f"row-level security of {at} may hide rows from role {role}: {bypass}, or as the table's owner {policy}",
    )


def _id_type(at: TableColumn, table: TableFacts, columns: dict[str, ColumnFacts]) -> str:
    column = columns.get(at.id_column)
    if column is None:
        raise SourceRefused(
            "ColumnMissing",
            f"{at} has no column {at.id_column!r}: set spec.idColumn in a new source, to one of its columns",
        )
    if column.type_name not in ID_TYPES or column.type_schema != "pg_catalog":
        raise SourceRefused(
            "IdTypeUnsupported",
            f"{at}.{column.name} is {column.declared}, and an id must be bigint, integer, smallint, uuid, text, varchar, char or "
            f"a domain over one of them: set spec.idColumn in a new source to such a column, {_another_id(at)}",
        )
    if not column.deterministic:
        raise SourceRefused(
            "IdCollationUnsupported",
            f"{at}.{column.name} has a collation in which different ids are equal: set spec.idColumn in a new source to a column "
            f"with a deterministic collation, {_another_id(at)}",
        )
    _refuse_ids_of_several_rows(at, table, column)
    return ID_TYPES[column.type_name]


def _another_id(at: TableColumn) -> str:
    return (
        f"for example one that you add with ALTER TABLE {qualified(at)} ADD COLUMN embedding_id bigint "
        "GENERATED ALWAYS AS IDENTITY UNIQUE"
    )


def _refuse_ids_of_several_rows(at: TableColumn, table: TableFacts, column: ColumnFacts) -> None:
    if not column.not_null:
        raise SourceRefused(
            "IdNullable",
            f"{at}.{column.name} may be null: "
            f"ALTER TABLE {qualified(at)} ALTER COLUMN {quoted(column.name)} SET NOT NULL",
        )
    if not column.unique:
        found = f" ({'; '.join(column.unusable_indexes)})" if column.unusable_indexes else ""
        index = f"CREATE UNIQUE INDEX ON {qualified(at)} ({quoted(column.name)})"
        remedy = (
            f"name the primary key, or {index}"
            if table.kind == "r"
            else "make a source for each partition that has such an index, or partition the table by its id"
        )
        raise SourceRefused("IdNotUnique", f"{at}.{column.name} has no unique index of its own{found}: {remedy}")


def _vector_type(at: TableColumn, dimensions: int, column: ColumnFacts) -> str:
    if column.generated:
        raise SourceRefused(
            "ColumnGenerated", f"{at}.{column.name} is a generated column: name one that can be written"
        )
    if column.type_name in VECTOR_TYPES and column.is_base_type:
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
        f"{at}.{column.name} is {column.declared}: a vector needs vector({dimensions}), halfvec({dimensions}), "
        "real[] or double precision[]",
    )
