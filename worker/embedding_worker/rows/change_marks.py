"""The SQL that creates the operator's own tables, and the triggers that append a change mark when a row's text may have changed.

Pure; schema.py runs the statements for what is missing, under an advisory lock. The user's table gets one column and these
triggers; all book-keeping is in schema embedding_operator. A trigger only appends marks, so that the application never waits.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from embedding_worker.rows.statements import SCHEMA, Statements
from embedding_worker.rows.table import quoted
from embedding_worker.source import ChangeDetection

SCHEMA_EXISTS = f"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}')"
BOOKKEEPING_EXISTS = (
    f"SELECT to_regclass('{SCHEMA}.sources') IS NOT NULL, to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL, "
    "(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attname = 'id')"
)
SOURCES_EXIST = f"SELECT to_regclass('{SCHEMA}.sources') IS NOT NULL"
TRIGGERS_PRESENT = """
SELECT t.tgname::text, t.tgenabled::text FROM pg_trigger t WHERE t.tgrelid = $1::bigint::oid AND t.tgname = ANY($2::text[])
"""
SOURCE_RECORD = (
    f"SELECT s.trigger_definition, s.filled_for, s.in_force FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1"
)
RECORD_SOURCE = f"""
INSERT INTO {SCHEMA}.sources AS s (bookkeeping, table_name, embedding_column, trigger_definition, in_force)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (bookkeeping)
DO UPDATE SET trigger_definition = excluded.trigger_definition, in_force = excluded.in_force
"""
RECORD_FILLED = f"UPDATE {SCHEMA}.sources SET filled_for = $2 WHERE bookkeeping = $1"
TODAY = "(now() AT TIME ZONE 'UTC')::date"
USED_TODAY = f"SELECT u.day::text, u.texts, u.tokens FROM {SCHEMA}.usage u WHERE u.bookkeeping = $1 AND u.day = {TODAY}"
BEGIN_DAY = f"INSERT INTO {SCHEMA}.usage (bookkeeping, day) VALUES ($1, {TODAY}) ON CONFLICT DO NOTHING"
# The subquery locks the row, so that two replicas never grant the same texts twice.
ACQUIRE_TEXTS = f"""
UPDATE {SCHEMA}.usage u SET texts = u.texts + g.granted, tokens = u.tokens + $3::bigint * g.granted / $2::bigint
FROM (SELECT greatest(0, least($2::bigint, $4::bigint - o.texts)) AS granted FROM {SCHEMA}.usage o
      WHERE o.bookkeeping = $1 AND o.day = {TODAY} FOR UPDATE) g
WHERE u.bookkeeping = $1 AND u.day = {TODAY} RETURNING g.granted
"""

CREATE_SHARED = (
    f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.sources (
    bookkeeping text PRIMARY KEY, table_name text NOT NULL, embedding_column text NOT NULL,
    trigger_definition text NOT NULL, in_force text NOT NULL, filled_for text)""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.usage (
    bookkeeping text, day date, texts bigint NOT NULL DEFAULT 0, tokens bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (bookkeeping, day))""",
)
"""`in_force` is the configuration in force (SourceConfig.as_record). `filled_for` is the signature of the configuration for which
an audit has read the whole table; null if there is none. `usage` counts what is sent to the provider, by UTC day."""


def create_bookkeeping(statements: Statements) -> tuple[str, ...]:
    """The two book-keeping tables for one table and column: the state of its rows, and the change marks."""
    id_type, due, state = statements.layout.id_type, statements.due, statements.state
    stem = statements.config.at.bookkeeping_name
    return (
        f"""CREATE TABLE IF NOT EXISTS {state} (
    id {id_type} PRIMARY KEY, content_hash text NOT NULL, fingerprint text NOT NULL, embedded_at timestamptz NOT NULL)""",
        f"""CREATE TABLE IF NOT EXISTS {due} (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id {id_type} NOT NULL,
    since timestamptz NOT NULL DEFAULT now(), edited boolean NOT NULL DEFAULT true, moved boolean NOT NULL DEFAULT false)""",
        f"CREATE INDEX IF NOT EXISTS {quoted(stem + '_due_id')} ON {due} (id)",
        f"CREATE INDEX IF NOT EXISTS {quoted(stem + '_due_edit')} ON {due} (seq) WHERE edited",
    )


def add_embedding_column(statements: Statements, dimensions: int) -> str:
    layout = statements.layout
    wanted = layout.vector_type if layout.vector_type.endswith("[]") else f"{layout.vector_type}({dimensions})"
    return f"ALTER TABLE {statements.table} ADD COLUMN IF NOT EXISTS {quoted(statements.config.at.embedding_column)} {wanted}"


@dataclass(frozen=True)
class Trigger:
    """The pair of triggers of one table and column, and the function that both call."""

    function_name: str
    insert_name: str
    update_name: str
    create: tuple[str, ...]
    enable_always: tuple[str, ...]
    """For the table's owner only: with it, the triggers also fire for rows that logical replication writes."""
    drop: tuple[str, ...]

    @property
    def function(self) -> str:
        return f"{SCHEMA}.{quoted(self.function_name)}"

    @property
    def names(self) -> tuple[str, str]:
        return self.insert_name, self.update_name

    @property
    def definition(self) -> str:
        """A hash that changes when the triggers must be created again."""
        return hashlib.sha256("\n".join(self.create).encode()).hexdigest()[:16]


def trigger(statements: Statements, columns: Sequence[str]) -> Trigger:
    """The triggers that append a mark when a row is inserted, or when its id or a column that its text reads has changed.

    They compare the binary images of the columns, because IS DISTINCT FROM has no operator for json, and treats 1.0 and 1.00 as
    equal. If the id has changed, the mark has `moved` = true: the book-keeping of the new id may be that of an earlier row, so it
    does not show that the row is up to date.
    """
    at, table = statements.config.at, statements.table
    stem = at.bookkeeping_name
    function = f"{SCHEMA}.{quoted(stem + '_mark')}"
    insert_name, update_name = f"{stem}_ins", f"{stem}_upd"
    read = [at.id_column, *(column for column in columns if column != at.id_column)]
    old, new = (", ".join(f"{side}.{quoted(column)}" for column in read) for side in ("OLD", "NEW"))
    new_id, old_id = (f"{side}.{quoted(at.id_column)}" for side in ("NEW", "OLD"))
    moved = f"TG_OP = 'UPDATE' AND {new_id} <> {old_id}"
    body = f"BEGIN INSERT INTO {statements.due} (id, moved) VALUES ({new_id}, {moved}); RETURN NULL; END"
    fires = f"FOR EACH ROW EXECUTE FUNCTION {function}()"
    return Trigger(
        function_name=f"{stem}_mark",
        insert_name=insert_name,
        update_name=update_name,
        create=(
            # SECURITY DEFINER: a role that writes the user's table needs no privileges on the book-keeping.
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            f"SET search_path = pg_catalog, pg_temp AS $mark${body}$mark$",
            f"REVOKE EXECUTE ON FUNCTION {function}() FROM PUBLIC",
            f"CREATE OR REPLACE TRIGGER {quoted(insert_name)} AFTER INSERT ON {table} {fires}",
            f"CREATE OR REPLACE TRIGGER {quoted(update_name)} AFTER UPDATE ON {table} FOR EACH ROW "
            f"WHEN (pg_catalog.record_image_ne(ROW({old}), ROW({new}))) EXECUTE FUNCTION {function}()",
        ),
        enable_always=tuple(
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {quoted(name)}" for name in (insert_name, update_name)
        ),
        drop=tuple(f"DROP TRIGGER IF EXISTS {quoted(name)} ON {table}" for name in (insert_name, update_name)),
    )


def wants_trigger(statements: Statements) -> bool:
    return statements.config.change_detection is ChangeDetection.TRIGGER
