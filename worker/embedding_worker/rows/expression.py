"""Decides which columns a text expression reads, and which expressions are refused. Pure; called by inspection.py.

PostgreSQL parses the expression: inspection.py creates a temporary view of it, reads the facts (EXPRESSION_FACTS) and rolls back.
PostgreSQL itself refuses aggregates, window functions and set-returning functions there; everything else is decided here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.table import qualified
from embedding_worker.rows.table_facts import ColumnFacts
from embedding_worker.source import ChangeDetection, SourceConfig

PROBE_VIEW = "embedding_operator_probe"

EXPRESSION_FACTS = f"""
SELECT r.ev_action::text,
       ARRAY(SELECT d.refobjsubid::int FROM pg_depend d WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::bigint::oid AND d.refobjsubid > 0)
FROM pg_rewrite r WHERE r.ev_class = '{PROBE_VIEW}'::regclass
"""
OTHER_TABLES = f"""
SELECT c.oid::bigint, c.oid::regclass::text, row_security_active(c.oid) FROM pg_rewrite r JOIN pg_depend d
  ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class c ON c.oid = d.refobjid
WHERE r.ev_class = '{PROBE_VIEW}'::regclass AND c.oid NOT IN ($1::bigint::oid, r.ev_class)
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
GROUP BY c.oid ORDER BY 2
"""
FUNCTION_FACTS = """
SELECT p.oid::bigint, p.proname::text, p.oid::regprocedure::text, p.provolatile = 'v', n.nspname = 'pg_catalog'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = ANY($1::bigint[]::oid[])
"""
GENERATED_READS = """
SELECT ad.adnum::int, d.refobjsubid::int FROM pg_attrdef ad JOIN pg_depend d
  ON d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid AND d.refclassid = 'pg_class'::regclass
WHERE ad.adrelid = $1::bigint::oid AND d.refobjid = ad.adrelid AND d.refobjsubid > 0 AND d.refobjsubid <> ad.adnum
"""

# PostgreSQL calls them stable, which is constant within one statement only. The same row would have another text tomorrow, or
# in another session, and every audit would find every row due.
OF_THE_MOMENT = frozenset(
    {
        "now",
        "transaction_timestamp",
        "statement_timestamp",
        "age",
        "current_setting",
        "current_schema",
        "current_schemas",
    }
    | {
        "txid_current",
        "pg_current_xact_id",
        "inet_client_addr",
        "inet_client_port",
        "pg_backend_pid",
        "current_database",
    }
)


@dataclass(frozen=True)
class FunctionFacts:
    oid: int
    name: str
    signature: str
    """With its schema and the types of its arguments, as ALTER FUNCTION and GRANT take it."""
    volatile: bool
    built_in: bool


@dataclass(frozen=True)
class OtherTable:
    """A table or view that a subquery reads."""

    oid: int
    name: str
    row_security: bool
    """Policies apply to the role."""


@dataclass(frozen=True)
class ExpressionFacts:
    tree: str
    """PostgreSQL's own node tree of the probe view."""
    column_numbers: frozenset[int]
    others: tuple[OtherTable, ...]


NO_WORDS = "'bool', 'bytea', 'bit', 'varbit', 'vector', 'halfvec', 'sparsevec'"
"""Types of which no value is a text that anybody would search by. Numbers, dates and JSON may be meant."""
TYPE_OF_VALUE = f"""
SELECT format_type(t.oid, NULL), t.typname IN ({NO_WORDS}) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = '{PROBE_VIEW}'::regclass AND a.attname = 'eo_value'"""
"""→ the type of the expression, and whether its values are no words."""


def row_text(config: SourceConfig) -> str:
    """A row's text in SQL, never null. The newline ends a comment that the expression may end in."""
    return f"coalesce((({config.text}\n)::text), '')"


def type_view_sql(config: SourceConfig) -> tuple[str, str]:
    """Puts a view of the expression, before it is cast to text, in the place of the probe view. It reads no row."""
    view = f"CREATE TEMP VIEW {PROBE_VIEW} AS SELECT ({config.text}\n) AS eo_value FROM {qualified(config.at)}"
    return f"DROP VIEW {PROBE_VIEW}", view


def refuse_type(name: str) -> SourceRefused:
    return SourceRefused(
        "TextRefused",
        f"spec.text is of type {name}, whose values are no words: give an expression of type text, such as the columns that "
        "people would search by",
    )


def probe_view_sql(config: SourceConfig) -> str:
    """The view that makes PostgreSQL parse the expression, in the same form as in the statements."""
    return f"CREATE TEMP VIEW {PROBE_VIEW} AS SELECT 1 AS one FROM {qualified(config.at)} WHERE {row_text(config)} IS NOT NULL"


def function_oids(tree: str) -> list[int]:
    """Every function that the node tree calls, by name or through an operator or cast."""
    found = re.findall(r":(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)", tree)
    return sorted({int(oid) for oid in found} - {0})


def no_expression(config: SourceConfig, said: str, search_path: str) -> SourceRefused:
    """The refusal of an expression that PostgreSQL does not parse, in its words (`said`), with what may help."""
    remedy = ""
    if said.endswith("(42883)"):  # undefined function or operator
        remedy = (
            f": create it, correct its name or arguments, or name its schema too (the search_path is {search_path})"
        )
    return SourceRefused("TextRefused", f"spec.text is no expression over a row of {config.at}: {said}{remedy}")


def schema_denied(said: str) -> str | None:
    """The schema that the role may not enter according to a message of PostgreSQL; None if it says something else."""
    found = re.search(r"permission denied for schema (.+) \(42501\)$", said)
    return found[1] if found else None


def columns_read(
    config: SourceConfig,
    facts: ExpressionFacts,
    functions: Sequence[FunctionFacts],
    columns: dict[str, ColumnFacts],
    generated_reads: dict[int, frozenset[int]],
    *,
    table_oid: int,
) -> tuple[str, ...]:
    """The columns that the text reads, generated ones replaced by what they read themselves, in the table's order.

    Raises SourceRefused, reason TextRefused, if rows would never stay up to date, or would cost money without end.
    """
    _refuse_moments(facts, functions)
    if re.search(r":varno \d+ :varattno 0 ", facts.tree):
        raise SourceRefused(
            "TextRefused", "spec.text refers to the whole row, so to the vector too: name the columns it needs"
        )
    if re.search(r":varno \d+ :varattno -\d+ ", facts.tree):
        raise SourceRefused(
            "TextRefused", "spec.text reads a system column, which changes with every write: leave it out"
        )
    _refuse_other_tables(config, facts, table_oid)
    numbers = _expanded(facts.column_numbers, generated_reads)
    names = {column.number: column.name for column in columns.values()}
    if not numbers:
        raise SourceRefused(
            "TextRefused", f"spec.text reads no column of {config.at}: every row would have the same vector"
        )
    if config.at.embedding_column in {names[number] for number in numbers}:
        raise SourceRefused(
            "TextRefused",
            f"spec.text reads {config.at.embedding_column}, the vector itself: every write would make the row due again",
        )
    return tuple(names[number] for number in sorted(numbers))


def _refuse_other_tables(config: SourceConfig, facts: ExpressionFacts, table_oid: int) -> None:
    names = [other.name for other in facts.others]
    if len(re.findall(rf":rtekind 0 :relid {table_oid} ", facts.tree)) > 1:  # the row itself is one of them
        names.append(f"other rows of {config.at}")
    if names and config.change_detection is ChangeDetection.TRIGGER:
        raise SourceRefused(
            "TextRefused",
            f"spec.text reads {', '.join(names)}, whose edits no trigger on {config.at} sees: "
            "set spec.changeDetection to Audit, or keep what it needs in the row",
        )
    if hidden := [other.name for other in facts.others if other.row_security]:
        raise SourceRefused(
            "RowSecurityActive",
            f"spec.text reads {', '.join(hidden)}, whose row-level security may hide rows from the operator's role: "
            "ALTER ROLE with BYPASSRLS for it as a superuser, or keep what spec.text needs in the row",
        )


def _refuse_moments(facts: ExpressionFacts, functions: Sequence[FunctionFacts]) -> None:
    if "{SQLVALUEFUNCTION" in facts.tree:
        raise SourceRefused(
            "TextRefused",
            "spec.text reads the current date, time or user: the same row would have another text every day",
        )
    for function in functions:
        if function.volatile or (function.built_in and function.name in OF_THE_MOMENT):
            raise SourceRefused("TextRefused", _inconstant(function))


def _inconstant(function: FunctionFacts) -> str:
    if function.built_in:
        called = f"{function.name}()"
        return f"spec.text calls {called}, which gives another value for the same row at another time: leave it out"
    return (
        f"spec.text calls {function.signature}, which is marked VOLATILE, so that it may give another value for the same row at "
        f"another time: leave it out, or, if it never does, ALTER FUNCTION {function.signature} IMMUTABLE"
    )


def _expanded(numbers: frozenset[int], generated_reads: dict[int, frozenset[int]]) -> set[int]:
    result: set[int] = set()
    for number in numbers:
        result |= generated_reads.get(number, frozenset({number}))
    return result
