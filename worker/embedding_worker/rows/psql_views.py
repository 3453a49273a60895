"""What people with psql alone can ask: a view with a line for each source, a function for one row, and a view of the rows of each
source. Nothing here reads them.

Called by schema.py at each set-up. They depend on no table of the user and on none of one source, so that they prevent no ALTER
and no DROP. The functions of this module run with their owner's rights, so that a role that may use the schema and read the view
`status` needs no others.
"""

import hashlib
from dataclasses import dataclass

import structlog

from embedding_worker.errors import RowsLocked, SourceRefused
from embedding_worker.rows import psql_rows
from embedding_worker.rows.database import Database
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.psql_rows import (
    LAST_ATTEMPT,
    LAST_ERROR,
    NO_SUCH_ROW,
    WHY_DUE,
    WHY_UP_TO_DATE,
    last_outcome,
    rows_name,
)
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.triggers import schema_change

log = structlog.get_logger(__name__)


def _doubled(sql: str) -> str:
    """As a part of a string constant."""
    return sql.replace("'", "''")


# pg_temp stands last: otherwise PostgreSQL looks there first, and temporary objects of a reader would run as the operator.
COUNT_ROWS = f"""
CREATE OR REPLACE FUNCTION {SCHEMA}.count_rows(
    stem text, OUT fresh bigint, OUT due bigint, OUT oldest_due timestamptz, OUT blank bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    marks regclass := to_regclass(format('{SCHEMA}.%I', stem || '_marks'));
    state regclass := to_regclass(format('{SCHEMA}.%I', stem || '_state'));
BEGIN
    IF marks IS NULL OR state IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT count(DISTINCT m.id), min(m.since) FROM %s m WHERE m.id IS NOT NULL', marks) INTO due, oldest_due;
    EXECUTE format('SELECT count(*), count(*) FILTER (WHERE s.blank) FROM %s s
        WHERE NOT EXISTS (SELECT FROM %s m WHERE m.id = s.id::text)', state, marks) INTO fresh, blank;
END $$"""
_WHY = f"CASE WHEN m.since IS NOT NULL THEN {WHY_DUE} WHEN s.id IS NULL THEN '{NO_SUCH_ROW}' ELSE {WHY_UP_TO_DATE} END"
ROW_STATUS = f"""
CREATE OR REPLACE FUNCTION {SCHEMA}.row_status(of_table text, row_id text)
RETURNS TABLE (source text, embedding_column text, up_to_date boolean, why text, due_since timestamptz,
    embedded_at timestamptz, model text, last_attempt timestamptz, last_error text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known record;
    id_type text;
    has_id text;
BEGIN
    FOR known IN SELECT s.*, s.owner::json ->> 'namespace' AS namespace, s.owner::json ->> 'name' AS name
            FROM {SCHEMA}.sources s WHERE s.table_name = of_table ORDER BY s.embedding_column LOOP
        source := known.namespace || '/' || known.name;
        embedding_column := known.embedding_column;
        SELECT format_type(a.atttypid, NULL) INTO id_type FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = to_regclass(format('{SCHEMA}.%I', known.bookkeeping || '_state')) AND a.attname = 'id';
        BEGIN
            EXECUTE format('SELECT $1::%s', id_type) USING row_id;
            has_id := format('s.id = $1::%s AND s.id::text = $1', id_type);
        EXCEPTION WHEN OTHERS THEN
            has_id := 'false';
        END;
        RETURN QUERY EXECUTE format('
            SELECT $2, $3, m.since IS NULL AND s.id IS NOT NULL, {_doubled(_WHY)},
                m.since, s.embedded_at, s.fingerprint, {_doubled(LAST_ATTEMPT)}, {_doubled(LAST_ERROR)}
            FROM (SELECT min(d.since) AS since, max(d.since) AS newest, bool_or(d.edited) AS edited
                FROM {SCHEMA}.%I d WHERE d.id = $1) m
            LEFT JOIN {SCHEMA}.%I s ON %s LEFT JOIN LATERAL {last_outcome("$4", "$1")} o ON true',
            known.bookkeeping || '_marks', known.bookkeeping || '_state', has_id)
            USING row_id, source, embedding_column, known.bookkeeping;
    END LOOP;
END $$"""
STATUS = f"""
CREATE OR REPLACE VIEW {SCHEMA}.status AS
SELECT (s.owner::json ->> 'namespace') || '/' || (s.owner::json ->> 'name') AS source, s.table_name, s.embedding_column,
       c.fresh + c.due AS total, c.fresh, c.due, c.oldest_due, c.blank,
       b.ended_at IS NULL AND b.run IS NOT NULL AS backfilling, w.done AS backfill_done, b.total AS backfill_total,
       coalesce(u.texts, 0) AS texts_today, s.triggers_paused_at
FROM {SCHEMA}.sources s CROSS JOIN LATERAL {SCHEMA}.count_rows(s.bookkeeping) c
LEFT JOIN {SCHEMA}.usage u ON u.bookkeeping = s.bookkeeping AND u.day = (now() AT TIME ZONE 'UTC')::date
LEFT JOIN {SCHEMA}.backfills b ON b.bookkeeping = s.bookkeeping
LEFT JOIN LATERAL (SELECT sum(p.done)::bigint AS done FROM {SCHEMA}.backfill_workers p
    WHERE p.bookkeeping = b.bookkeeping AND p.run = b.run) w ON true
ORDER BY 1"""


@dataclass(frozen=True)
class Views:
    """What is created together. The comment of the view says which version has made it: another one replaces it."""

    view: str
    create: tuple[str, ...]
    """Keeps what has the same columns, with the rights that were granted on it."""
    drop: tuple[str, ...]

    @property
    def made_by(self) -> str:
        return f"made by embedding-operator, {hashlib.sha256(''.join(self.create).encode()).hexdigest()[:8]}"

    @property
    def replace(self) -> tuple[str, ...]:
        return (*self.create, f"COMMENT ON VIEW {self.view} IS '{self.made_by}'")


OF_ALL_SOURCES = Views(
    f"{SCHEMA}.status",
    (COUNT_ROWS, f"DROP FUNCTION IF EXISTS {SCHEMA}.row_status(text, text)", ROW_STATUS, STATUS),
    (f"DROP VIEW IF EXISTS {SCHEMA}.status", f"DROP FUNCTION IF EXISTS {SCHEMA}.count_rows(text)"),
)
IS_PRESENT = "SELECT obj_description(to_regclass($1), 'pg_class') IS NOT DISTINCT FROM $2"


async def create_views(database: Database, statements: Statements) -> None:
    """Create what is missing, or of another version. A role that may not do so does without, and a view that somebody reads in an
    open transaction is replaced at a later set-up.
    """
    of_source = Views(rows_name(statements), psql_rows.create(statements), psql_rows.drop(statements))
    for views in (OF_ALL_SOURCES, of_source):
        try:
            await _create(database, views)
        except (SourceRefused, RowsLocked) as exc:
            log.info("views not created, which the operator does not need", view=views.view, why=str(exc))


async def _create(database: Database, views: Views) -> None:
    async with database.transaction() as transaction:
        if (await transaction.fetch(IS_PRESENT, views.view, views.made_by))[0][0]:
            return
    try:
        await _run(database, views.replace)
    except SourceRefused:  # what is there has other columns
        await _run(database, (*views.drop, *views.replace))


async def _run(database: Database, statements: tuple[str, ...]) -> None:
    async with schema_change(database) as transaction:
        for sql in statements:
            await transaction.fetch(sql)
