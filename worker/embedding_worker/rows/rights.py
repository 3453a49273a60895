"""Decides which rights the operator's role needs for a source, and gives the SQL that grants those that are missing. Pure.

Called by inspection.py, which asks the catalog, so that set-up and the checks find the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.change_marks import SHARED_TABLES, Trigger, wants_trigger
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import qualified, quoted
from embedding_worker.rows.table_facts import ColumnFacts, TableFacts, VectorExtension
from embedding_worker.source import TableColumn

MOST_NAMED = 20
"""So many objects are named in one GRANT."""
WRITTEN, EMPTIED = ("SELECT", "INSERT", "UPDATE"), ("SELECT", "INSERT", "UPDATE", "DELETE")
KEYWORDS = {"database": "DATABASE ", "schema": "SCHEMA ", "function": "FUNCTION "}

LACKING = """
SELECT n.number::int FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[])
    WITH ORDINALITY n(kind, oid, privilege, column_name, number)
WHERE NOT CASE n.kind
    WHEN 'database' THEN has_database_privilege(n.oid::oid, n.privilege)
    WHEN 'schema' THEN has_schema_privilege(n.oid::oid, n.privilege)
    WHEN 'table' THEN has_table_privilege(n.oid::oid, n.privilege)
    WHEN 'column' THEN has_column_privilege(n.oid::oid, n.column_name, n.privilege)
    WHEN 'function' THEN has_function_privilege(n.oid::oid, n.privilege)
    WHEN 'owner' THEN (SELECT pg_has_role(p.proowner, 'USAGE') OR pg_has_role(s.nspowner, 'USAGE')
        FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace WHERE p.oid = n.oid::oid) END
ORDER BY n.number
"""
# to_regclass would raise an error in a schema that the role may not enter.
OWN_FACTS = f"""
WITH n AS (SELECT to_regnamespace('{SCHEMA}')::oid AS oid),
own AS (SELECT c.relname, c.oid FROM n JOIN pg_class c ON c.relnamespace = n.oid WHERE c.relname = ANY($1::text[]))
SELECT (SELECT d.oid::bigint FROM pg_database d WHERE d.datname = current_database()), n.oid::bigint,
    ARRAY(SELECT o.relname::text FROM own o ORDER BY o.oid), ARRAY(SELECT o.oid::bigint FROM own o ORDER BY o.oid),
    (SELECT p.oid::bigint FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = $2),
    (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = $3::bigint::oid AND t.tgname = ANY($4::text[]))
FROM n
"""


@dataclass(frozen=True)
class Right:
    """A privilege on an object. Kind `owner` stands for the ownership of a function, or of its schema."""

    kind: str
    oid: int
    on: str
    """The object's name in SQL."""
    privilege: str
    column: str = ""

    @property
    def granted(self) -> str:
        return f"{self.privilege} ({quoted(self.column)})" if self.column else self.privilege


@dataclass(frozen=True)
class OwnObjects:
    """What of the operator's own exists in the database."""

    database_oid: int
    schema_oid: int | None
    tables: dict[str, int]
    function_oid: int | None
    trigger_present: bool


def rights_on_table(
    statements: Statements,
    table: TableFacts,
    embedding: ColumnFacts | None,
    vector: VectorExtension | None,
    own: OwnObjects,
) -> list[Right]:
    """What is needed to read the table, to write its vectors, and to find out which columns the text reads."""
    at = statements.config.at
    name = qualified(at)
    rights = [
        Right("schema", table.schema_oid, quoted(at.schema), "USAGE"),
        Right("database", own.database_oid, quoted(table.database), "TEMPORARY"),
        Right("table", table.oid, name, "SELECT"),
    ]
    if embedding is not None:
        rights.append(Right("column", table.oid, name, "UPDATE", at.embedding_column))
        rights.append(Right("schema", embedding.type_schema_oid, quoted(embedding.type_schema), "USAGE"))
    elif vector is not None:
        rights.append(Right("schema", vector.schema_oid, quoted(vector.schema), "USAGE"))
    return rights


def rights_in_own_schema(statements: Statements, table: TableFacts, own: OwnObjects) -> list[Right]:
    """What is needed to create the book-keeping, or to use the one that exists."""
    if own.schema_oid is None:
        return [Right("database", own.database_oid, quoted(table.database), "CREATE")]
    needed = own_tables(statements.config.at)
    rights = [Right("schema", own.schema_oid, SCHEMA, "USAGE")]
    if not needed.keys() <= own.tables.keys():
        rights.append(Right("schema", own.schema_oid, SCHEMA, "CREATE"))
    for name, oid in own.tables.items():
        rights += [Right("table", oid, f"{SCHEMA}.{quoted(name)}", privilege) for privilege in needed[name]]
    return rights


def rights_to_create_trigger(
    statements: Statements, table: TableFacts, own: OwnObjects, trigger: Trigger
) -> list[Right]:
    """CREATE TRIGGER on a partitioned table creates a trigger on each partition, and needs the right on each."""
    if not wants_trigger(statements):
        return []
    rights = [Right("table", table.oid, qualified(statements.config.at), "TRIGGER")]
    for oid, name in zip(table.partition_oids, table.partitions, strict=True):
        rights.append(Right("table", oid, name, "TRIGGER"))
    if own.schema_oid is not None:
        rights.append(Right("schema", own.schema_oid, SCHEMA, "CREATE"))
    if own.function_oid is not None:
        rights.append(Right("owner", own.function_oid, f"{trigger.function}()", "OWNER"))
    return rights


def own_tables(at: TableColumn) -> dict[str, tuple[str, ...]]:
    """The names of the operator's tables for a source, and the privileges that it needs on each."""
    stem = at.bookkeeping_name
    return dict.fromkeys(SHARED_TABLES, WRITTEN) | {f"{stem}_marks": EMPTIED, f"{stem}_state": EMPTIED}


def refuse_lacking(statements: Statements, table: TableFacts, rights: Sequence[Right], *, dimensions: int) -> None:
    """Raises SourceRefused with the SQL for all of these rights, and for a column that only the table's owner can add."""
    at, layout, role = statements.config.at, statements.layout, quoted(table.role)
    name, column = qualified(at), quoted(at.embedding_column)
    if layout.column_missing and not layout.owned:
        wanted = layout.vector_type if layout.vector_type == "real[]" else f"{layout.vector_type}({dimensions})"
        add = f"ALTER TABLE {name} ADD COLUMN {column} {wanted}"
        rights = [*rights, Right("column", table.oid, name, "UPDATE", at.embedding_column)]
        raise SourceRefused(
            "ColumnMissing",
            f"{at} has no column {at.embedding_column!r}, and role {role} may not add it: {add}; {grants(rights, role)}",
        )
    if rights:
        partly = (
            " (TRIGGER is not needed if spec.changeDetection is Audit)"
            if any(right.privilege == "TRIGGER" for right in rights)
            else ""
        )
        raise SourceRefused("Forbidden", f"role {role} lacks rights for {at}{partly}: {grants(rights, role)}")


def grants(rights: Iterable[Right], role: str) -> str:
    """The statements that give these rights to a role (a name in SQL), each object once, in the order of the rights."""
    privileges: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        granted = privileges.setdefault((KEYWORDS.get(right.kind, ""), right.on), [])
        if right.kind == "owner":
            granted[:] = ["OWNER"]
        elif right.granted not in granted:
            granted.append(right.granted)
    objects: dict[tuple[str, str], list[str]] = {}
    for (keyword, on), granted in privileges.items():
        objects.setdefault((keyword, ", ".join(granted)), []).append(on)
    return "; ".join(_statement(keyword, granted, names, role) for (keyword, granted), names in objects.items())


def _statement(keyword: str, granted: str, names: list[str], role: str) -> str:
    if granted == "OWNER":
        return "; ".join(f"ALTER FUNCTION {name} OWNER TO {role}" for name in names)
    more = len(names) - MOST_NAMED
    rest = f" (and the same on {more} more)" if more > 0 else ""
    return f"GRANT {granted} ON {keyword}{', '.join(names[:MOST_NAMED])} TO {role}{rest}"
