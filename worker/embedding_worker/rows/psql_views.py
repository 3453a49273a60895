"""What people with psql alone can ask: a view with a line for each source, and a function for one row. Nothing here reads them.

Called by schema.py at each set-up. They name no table of the user and none of one source, so that they prevent no ALTER and no
DROP. The functions run with their owner's rights, so that a role that may use the schema and read the view needs no others.
"""

import hashlib

import structlog

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.database import Database
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.triggers import schema_change

log = structlog.get_logger(__name__)

COUNT_ROWS = f"""
CREATE OR REPLACE FUNCTION {SCHEMA}.count_rows(
    stem text, OUT fresh bigint, OUT due bigint, OUT oldest_due timestamptz, OUT blank bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
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
ROW_STATUS = f"""
CREATE OR REPLACE FUNCTION {SCHEMA}.row_status(of_table text, row_id text)
RETURNS TABLE (source text, embedding_column text, up_to_date boolean, why text, due_since timestamptz,
    embedded_at timestamptz, model text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    known record;
BEGIN
    FOR known IN SELECT s.*, s.owner::json ->> 'namespace' AS namespace, s.owner::json ->> 'name' AS name
            FROM {SCHEMA}.sources s WHERE s.table_name = of_table ORDER BY s.embedding_column LOOP
        source := known.namespace || '/' || known.name;
        embedding_column := known.embedding_column;
        RETURN QUERY EXECUTE format('
            SELECT $2, $3, m.since IS NULL AND s.id IS NOT NULL,
                CASE WHEN m.edited THEN ''edited: it has an EmbeddingJob, or gets one''
                     WHEN m.since IS NOT NULL THEN ''found by the audit: it waits for its turn''
                     WHEN s.id IS NULL THEN ''unknown: no such row, or the audit has not come to it yet''
                     WHEN s.blank THEN ''its text is empty'' ELSE ''it has the vector of its text'' END,
                m.since, s.embedded_at, s.fingerprint
            FROM (SELECT min(d.since) AS since, bool_or(d.edited) AS edited FROM {SCHEMA}.%I d WHERE d.id = $1) m
            LEFT JOIN {SCHEMA}.%I s ON s.id::text = $1',
            known.bookkeeping || '_marks', known.bookkeeping || '_state') USING row_id, source, embedding_column;
    END LOOP;
END $$"""
STATUS = f"""
CREATE VIEW {SCHEMA}.status AS
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
STATEMENTS = (f"DROP VIEW IF EXISTS {SCHEMA}.status", COUNT_ROWS, ROW_STATUS, STATUS)
MADE_BY = f"made by embedding-operator, {hashlib.sha256(''.join(STATEMENTS).encode()).hexdigest()[:8]}"
"""The comment of the view: another version replaces it."""
IS_PRESENT = f"SELECT obj_description(to_regclass('{SCHEMA}.status'), 'pg_class') IS NOT DISTINCT FROM $1"


async def create_views(database: Database) -> None:
    """Create what is missing, or of another version. A role that may not do so does without."""
    try:
        async with database.transaction() as transaction:
            if (await transaction.fetch(IS_PRESENT, MADE_BY))[0][0]:
                return
        async with schema_change(database) as transaction:
            for sql in (*STATEMENTS, f"COMMENT ON VIEW {SCHEMA}.status IS '{MADE_BY}'"):
                await transaction.fetch(sql)
    except SourceRefused as exc:
        log.info("views not created, which the operator does not need", why=exc.message)
