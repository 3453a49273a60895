"""The SQL of the view with a line for each row of one source, for people with psql. Pure; psql_views.py creates it.

The view selects from a function, and PostgreSQL inlines the function, so that a condition on the view is looked up in an index.
Nothing depends on the tables that the body of a function names: neither a change of the user's table nor one of ours is refused,
also where an earlier version makes it. So a role needs SELECT on the view and on the operator's tables.
"""

from embedding_worker.rows.change_marks import dollar_quoted, literal
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import CERTAIN_DIGITS, INTEGER_BITS, quoted

UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
NO_SUCH_ROW = "unknown: no such row, or the audit has not come to it yet"
# The last outcome (o) counts only if it is newer than the newest mark (m.newest): after it, the row was edited.
WHY_DUE = """CASE WHEN o.at > m.newest AND o.phase = 'DeadLettered' THEN 'failed: its EmbeddingJob is a dead letter'
    WHEN o.at > m.newest AND o.phase = 'Retrying' THEN 'its last attempt did not succeed: it is tried again'
    WHEN m.edited THEN 'edited: it has an EmbeddingJob, or gets one'
    ELSE 'found by the audit: it waits for its turn' END"""
WHY_UP_TO_DATE = "CASE WHEN s.blank THEN 'its text is empty' ELSE 'it has the vector of its text' END"
LAST_ATTEMPT = "greatest(s.embedded_at, CASE WHEN o.phase <> 'Superseded' THEN o.at END)"
LAST_ERROR = """CASE WHEN o.phase <> 'Superseded' AND (s.embedded_at IS NULL OR o.at > s.embedded_at)
    THEN o.reason || ': ' || o.message END"""


def last_outcome(stem: str, row_id: str) -> str:
    """A derived table with the newest outcome of a row."""
    return (
        f"(SELECT l.at, l.phase, l.reason, l.message FROM {SCHEMA}.outcomes l "
        f"WHERE l.bookkeeping = {stem} AND l.id = {row_id} ORDER BY l.at DESC LIMIT 1)"
    )


def rows_name(statements: Statements) -> str:
    """The name of the view, and of the function."""
    return f"{SCHEMA}.{quoted(statements.config.at.bookkeeping_name + '_rows')}"


def create(statements: Statements) -> tuple[str, ...]:
    """Creates the function and the view, or replaces those with the same columns."""
    name = rows_name(statements)
    columns = (
        f"id {statements.layout.id_type}, source text, up_to_date boolean, why text, due_since timestamptz, "
        "embedded_at timestamptz, model text, last_attempt timestamptz, last_error text"
    )
    body = dollar_quoted(f"{_due(statements)}\nUNION ALL{_up_to_date(statements)}")
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS TABLE ({columns}) LANGUAGE sql STABLE AS {body}",
        f"CREATE OR REPLACE VIEW {name} AS SELECT r.* FROM {name}() r",
    )


def drop(statements: Statements) -> tuple[str, ...]:
    name = rows_name(statements)
    return f"DROP VIEW IF EXISTS {name}", f"DROP FUNCTION IF EXISTS {name}()"


def _due(statements: Statements) -> str:
    """One line for each row with marks. The oldest mark stands for the row, so that the first lines are found without sorting.

    min(seq + 0): for min(seq), PostgreSQL may read the index of seq from its beginning, until it meets the id.
    """
    stem, marks, state = _stem(statements), statements.marks, statements.state
    return f"""
SELECT d.id, {_source(stem)}, false, {WHY_DUE}, d.since, s.embedded_at, s.fingerprint, {LAST_ATTEMPT}, {LAST_ERROR}
FROM (SELECT {_typed("f.id", statements.layout.id_type)} AS id, f.id AS marked, f.since FROM {marks} f
    WHERE f.id IS NOT NULL AND f.seq = (SELECT min(k.seq + 0) FROM {marks} k WHERE k.id = f.id)) d
LEFT JOIN LATERAL (SELECT bool_or(k.edited) AS edited, max(k.since) AS newest FROM {marks} k WHERE k.id = d.marked) m ON true
LEFT JOIN LATERAL (SELECT * FROM {state} k WHERE k.id = d.id OFFSET 0) s ON true
LEFT JOIN LATERAL {last_outcome(stem, "d.marked")} o ON true WHERE d.id IS NOT NULL"""


def _up_to_date(statements: Statements) -> str:
    stem, row_id = _stem(statements), 's.id::text COLLATE pg_catalog."default"'
    return f"""
SELECT s.id, {_source(stem)}, true, {WHY_UP_TO_DATE}, NULL, s.embedded_at, s.fingerprint, {LAST_ATTEMPT}, {LAST_ERROR}
FROM {statements.state} s LEFT JOIN LATERAL {last_outcome(stem, row_id)} o ON true
WHERE NOT EXISTS (SELECT FROM {statements.marks} k WHERE k.id = {row_id})"""


def _stem(statements: Statements) -> str:
    return literal(statements.config.at.bookkeeping_name)


def _source(stem: str) -> str:
    name = "(k.owner::json ->> 'namespace') || '/' || (k.owner::json ->> 'name')"
    return f"(SELECT {name} FROM {SCHEMA}.sources k WHERE k.bookkeeping = {stem})"


def _typed(text: str, id_type: str) -> str:
    """The id in its own type; null if no row can have it. A mark may be from a time when the ids had another type.

    A regular expression for each of a million marks takes a second, so most ids are recognized without one.
    """
    if id_type in INTEGER_BITS:
        limit, digits = 2 ** (INTEGER_BITS[id_type] - 1), CERTAIN_DIGITS[id_type] - 1
        certain = f"octet_length({text}) BETWEEN 1 AND {digits} AND ltrim({text}, '0123456789') = ''"
        fits = f"CASE WHEN {text}::numeric BETWEEN {-limit} AND {limit - 1} THEN {text}::{id_type} END"
        return f"CASE WHEN {certain} THEN {text}::{id_type} WHEN {text} ~ '^-?[0-9]{{1,19}}$' THEN {fits} END"
    if id_type == "uuid":
        return f"CASE WHEN {text} ~ '{UUID}' THEN {text}::uuid END"
    return f"{text}::{id_type}"
