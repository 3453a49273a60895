"""The SQL that creates the operator's own tables, and the triggers that append a change mark when a row's text may have changed.

Pure; schema.py runs the statements for what is missing, under an advisory lock. The user's table gets one column and these
triggers; all book-keeping is in schema embedding_operator. A trigger only appends marks, so that the application never waits.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import quoted
from embedding_worker.source import ChangeDetection

SCHEMA_EXISTS = f"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}')"
SHARED_TABLES = ("sources", "usage", "rate_limits", "backfills", "backfill_workers", "outcomes")
ALL_SHARED_EXIST = " AND ".join(f"to_regclass('{SCHEMA}.{table}') IS NOT NULL" for table in SHARED_TABLES)
BOOKKEEPING_EXISTS = f"SELECT {ALL_SHARED_EXIST}, to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL"
SOURCES_EXIST = f"SELECT to_regclass('{SCHEMA}.sources') IS NOT NULL"
# A trigger of a partitioned table has a copy on each partition, and a partition's owner may disable that one alone.
TRIGGERS_FOUND = f"""
SELECT coalesce(bool_or(f.found), false), coalesce(bool_and(f.in_force), false),
       coalesce((SELECT pg_has_role(p.proowner, 'USAGE') FROM pg_proc p WHERE p.oid = to_regprocedure($4)), true),
       coalesce((SELECT pg_has_role(p.proowner, 'USAGE') OR pg_has_role(n.nspowner, 'USAGE') FROM pg_proc p
                 JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = to_regprocedure($4)), true)
FROM (SELECT t.oid IS NOT NULL AS found,
             coalesce(t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgattr::text = '' AND t.tgtype = w.type
                      AND n.nspname = '{SCHEMA}' AND p.prosrc = $3::text AND p.prosecdef
                      AND has_function_privilege('public', p.oid, 'EXECUTE'), false) AS in_force
      FROM (SELECT $1::bigint::oid AS oid UNION SELECT relid FROM pg_partition_tree($1::bigint::oid::regclass)) r
      CROSS JOIN unnest($2::text[], ARRAY[5, 17]) w(name, type)
      LEFT JOIN pg_trigger t ON t.tgrelid = r.oid AND t.tgname = w.name
      LEFT JOIN pg_proc p ON p.oid = t.tgfoid LEFT JOIN pg_namespace n ON n.oid = p.pronamespace) f
"""
"""$1 oid of the table, $2 names of the two triggers, $3 body and $4 signature of the function → whether one of the triggers
exists, whether both are in force (enabled, after each insert and each update of a row, with this function), whether this role may
replace the function, whether it may drop it."""
SOURCE_RECORD = (
    f"SELECT s.trigger_definition, s.filled_for, s.in_force FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1"
)
RECORD_SOURCE = f"""
INSERT INTO {SCHEMA}.sources AS s (bookkeeping, table_name, embedding_column, trigger_definition, in_force, adoptable)
VALUES ($1, $2, $3, $4, $5, $4::text <> '') ON CONFLICT (bookkeeping)
DO UPDATE SET trigger_definition = excluded.trigger_definition, in_force = excluded.in_force,
    adoptable = s.adoptable AND excluded.adoptable AND $6
"""
"""$6: whether the vectors of the configuration are those of the one before. Without triggers (an empty definition) edits may be
lost, so that a vector need not be that of the row's text."""
PAUSED_SINCE = f"SELECT s.triggers_paused_at FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1"
FORGET_FILLED = f"UPDATE {SCHEMA}.sources SET filled_for = NULL WHERE bookkeeping = $1 AND filled_for IS NOT NULL"
RECORD_FILLED = (
    f"UPDATE {SCHEMA}.sources SET filled_for = $2, adoptable = false WHERE bookkeeping = $1 RETURNING adopted"
)
LONGEST_MARKED_ID = 2_600
"""Bytes. An entry of an index may have 2,704; a resource can carry ids of 1,024 at most."""

CREATE_SHARED = (
    f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.sources (
    bookkeeping text PRIMARY KEY, table_name text NOT NULL, embedding_column text NOT NULL,
    trigger_definition text NOT NULL, in_force text NOT NULL, filled_for text,
    owner text, owner_seen_at timestamptz, owner_changes bigint NOT NULL DEFAULT 0, triggers_paused_at timestamptz,
    vector_type text, adoptable boolean NOT NULL DEFAULT false, adopted bigint NOT NULL DEFAULT 0)""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.usage (
    bookkeeping text, day date, texts bigint NOT NULL DEFAULT 0, tokens bigint NOT NULL DEFAULT 0,
    tokens_reported bigint NOT NULL DEFAULT 0, texts_cut bigint NOT NULL DEFAULT 0, PRIMARY KEY (bookkeeping, day))""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.rate_limits (
    connection text PRIMARY KEY, requests float8 NOT NULL DEFAULT 0, texts float8 NOT NULL DEFAULT 0,
    tokens float8 NOT NULL DEFAULT 0, as_of timestamptz NOT NULL DEFAULT clock_timestamp())""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.backfills (
    bookkeeping text PRIMARY KEY, source text NOT NULL, run text NOT NULL, settings text NOT NULL,
    total bigint NOT NULL, begun_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,
    paused boolean NOT NULL DEFAULT false)""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.backfill_workers (
    bookkeeping text, worker int, run text NOT NULL, done bigint NOT NULL, failed bigint NOT NULL, problem text NOT NULL,
    finished boolean NOT NULL, reported_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (bookkeeping, worker))""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.outcomes (
    bookkeeping text, id text, at timestamptz, phase text NOT NULL, reason text NOT NULL, message text NOT NULL,
    attempt int NOT NULL, PRIMARY KEY (bookkeeping, id, at))""",
    f"CREATE INDEX IF NOT EXISTS outcomes_at ON {SCHEMA}.outcomes (bookkeeping, at)",
)
"""`in_force` is the configuration in force (SourceConfig.as_record). `filled_for` is the signature of the configuration for which
an audit has read the whole table; null if there is none. `owner` and `owner_seen_at` are explained in ownership.py.
`triggers_paused_at` is null unless an administrator has paused the triggers. `adoptable` is true until an audit has read the
whole table in the first configuration, and `adopted` is the number of rows whose vectors were taken over (see adoption.py).
`usage` counts what is sent to the provider, by UTC day. `rate_limits` is explained in rate_limits.py, `backfills` and
`backfill_workers` in backfills.py, `outcomes` in last_outcomes.py."""


def create_bookkeeping(statements: Statements) -> tuple[str, ...]:
    """The two book-keeping tables for one table and column: the state of its rows, and the change marks.

    Nothing in the table of marks can refuse a row: no key, no constraint, and ids as text, whatever the id column is or becomes.
    It may be published by logical replication, where a deletion needs a replica identity.
    """
    id_type, marks, state = statements.layout.id_type, statements.marks, statements.state
    stem = statements.config.at.bookkeeping_name
    return (
        f"""CREATE TABLE IF NOT EXISTS {state} (
    id {id_type} PRIMARY KEY, content_hash text NOT NULL, fingerprint text NOT NULL, embedded_at timestamptz NOT NULL,
    vector_hash bytea, blank boolean NOT NULL DEFAULT false)""",
        f"CREATE INDEX IF NOT EXISTS {quoted(stem + '_state_blank')} ON {state} (id) WHERE blank",
        f"""CREATE TABLE IF NOT EXISTS {marks} (
    seq bigint GENERATED BY DEFAULT AS IDENTITY, id text, since timestamptz DEFAULT now(), edited boolean DEFAULT true)""",
        f"ALTER TABLE {marks} REPLICA IDENTITY FULL",
        f"CREATE INDEX IF NOT EXISTS {quoted(stem + '_marks_seq')} ON {marks} (seq)",
        f"CREATE INDEX IF NOT EXISTS {quoted(stem + '_marks_id')} ON {marks} (id)",
        f"CREATE INDEX IF NOT EXISTS {quoted(stem + '_marks_edit')} ON {marks} (seq) WHERE edited",
    )


def continue_sequence(statements: Statements) -> str:
    """After logical replication the sequence may be behind the marks. Newer marks must have higher numbers."""
    sequence = f"pg_get_serial_sequence({literal(statements.marks)}, 'seq')::regclass"
    return (
        f"SELECT setval({sequence}, m.newest) FROM (SELECT max(d.seq) AS newest FROM {statements.marks} d) m "
        f"WHERE m.newest > coalesce(pg_sequence_last_value({sequence}), 0)"
    )


def add_embedding_column(statements: Statements, dimensions: int) -> str:
    layout = statements.layout
    wanted = layout.vector_type if layout.vector_type.endswith("[]") else f"{layout.vector_type}({dimensions})"
    return f"ALTER TABLE {statements.table} ADD COLUMN IF NOT EXISTS {quoted(statements.config.at.embedding_column)} {wanted}"


BODY = """
DECLARE
    row_id text;
    changed boolean;
    planned boolean := false;
BEGIN
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF NOT record_image_ne({old}, {new}) THEN
                RETURN NULL;
            END IF;
        END IF;
        row_id := NEW.{id_column}::text;
        IF row_id IS NULL OR octet_length(row_id) > {longest} THEN
            RETURN NULL;
        END IF;
        INSERT INTO {marks} (id) SELECT row_id WHERE false;
        planned := true;
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    IF NOT planned THEN
        BEGIN
            BEGIN
                EXECUTE {compare} INTO row_id, changed USING OLD, NEW;
            EXCEPTION WHEN OTHERS THEN
                changed := true;
                EXECUTE {read_id} INTO row_id USING OLD, NEW;
            END;
            IF NOT changed OR row_id IS NULL OR octet_length(row_id) > {longest} THEN
                RETURN NULL;
            END IF;
            INSERT INTO {marks} (id) SELECT row_id WHERE false;
        EXCEPTION WHEN OTHERS THEN
            RETURN NULL;
        END;
    END IF;
    INSERT INTO {marks} (id) VALUES (row_id);
    RETURN NULL;
END"""
"""The body of the function. It never raises an error, so that it never makes a write of the application's fail.

Everything that could fail is in blocks that catch errors. They write nothing, so PostgreSQL gives them no transaction id. The
only statement outside of them is the insert, and it is only reached if an insert of no row has just succeeded, which checks the
table, its columns and the rights, and whose lock keeps the table as it is until the transaction ends. The mark's id is limited to
what fits into an entry of an index.

The images of the columns are compared, because IS DISTINCT FROM has no operator for json, and treats 1.0 and 1.00 as equal. A
session keeps the plans of this function: after a column has got another type it reads the rows by EXECUTE, which is planned each
time. If the columns cannot be compared, the row is marked; if the id cannot be read, the audit finds the row.
"""


@dataclass(frozen=True)
class Trigger:
    """The pair of triggers of one table and column, and the function that both call."""

    function_name: str
    body: str
    insert_name: str
    update_name: str
    create: tuple[str, ...]
    enable_always: tuple[str, ...]
    """For the table's owner only: with it, the triggers also fire for rows that logical replication writes."""

    @property
    def function(self) -> str:
        return f"{SCHEMA}.{quoted(self.function_name)}"

    @property
    def names(self) -> tuple[str, str]:
        return self.insert_name, self.update_name

    @property
    def drop(self) -> str:
        return drop_triggers(self.function)

    @property
    def definition(self) -> str:
        """A hash that changes when the triggers must be created again."""
        return hashlib.sha256("\n".join(self.create).encode()).hexdigest()[:16]


def marking_function(bookkeeping_name: str) -> str:
    """The name of the function of the triggers, in SQL."""
    return f"{SCHEMA}.{quoted(bookkeeping_name + '_mark')}"


def drop_triggers(function: str) -> str:
    """Drops the function and its triggers, also on a table that the function's owner does not own."""
    return f"DROP FUNCTION IF EXISTS {function}() CASCADE"


def trigger(statements: Statements, columns: Sequence[str]) -> Trigger:
    """The triggers that append a mark when a row is inserted, or when its id or a column that its text reads has changed."""
    at, table = statements.config.at, statements.table
    stem = at.bookkeeping_name
    function = marking_function(stem)
    insert_name, update_name = f"{stem}_ins", f"{stem}_upd"
    body = function_body(statements.marks, at.id_column, columns)
    fires = f"FOR EACH ROW EXECUTE FUNCTION {function}()"
    return Trigger(
        function_name=f"{stem}_mark",
        body=body,
        insert_name=insert_name,
        update_name=update_name,
        create=(
            # SECURITY DEFINER: a role that writes the user's table needs no privileges on the book-keeping. EXECUTE for PUBLIC:
            # ATTACH PARTITION checks it for the role that runs it. Other roles cannot enter the schema.
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            f"SET search_path = pg_catalog, pg_temp AS {dollar_quoted(body)}",
            f"GRANT EXECUTE ON FUNCTION {function}() TO PUBLIC",
            f"CREATE OR REPLACE TRIGGER {quoted(insert_name)} AFTER INSERT ON {table} {fires}",
            f"CREATE OR REPLACE TRIGGER {quoted(update_name)} AFTER UPDATE ON {table} {fires}",
        ),
        enable_always=tuple(
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {quoted(name)}" for name in (insert_name, update_name)
        ),
    )


def function_body(marks: str, id_column: str, columns: Sequence[str]) -> str:
    read = [quoted(column) for column in dict.fromkeys((id_column, *columns))]

    def row(side: str) -> str:
        return "ROW(" + ", ".join(f"{side}.{column}" for column in read) + ")"

    read_id = f"SELECT ($2).{read[0]}::text"
    return BODY.format(
        old=row("OLD"),
        new=row("NEW"),
        id_column=read[0],
        compare=literal(f"{read_id}, record_image_ne({row('($1)')}, {row('($2)')})"),
        read_id=literal(read_id),
        longest=LONGEST_MARKED_ID,
        marks=marks,
    )


def literal(text: str) -> str:
    """As a string constant, whatever standard_conforming_strings is."""
    return ("E" if "\\" in text else "") + "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def dollar_quoted(body: str) -> str:
    """A quoted name of a column may contain any tag."""
    tag = "mark"
    while f"${tag}$" in body:
        tag += "_"
    return f"${tag}${body}${tag}$"


def wants_trigger(statements: Statements) -> bool:
    return statements.config.change_detection is ChangeDetection.TRIGGER
