"""The statements with which PostgreSQL itself finds the rows whose text fails. Called by table_access.py, in one transaction.

A client would need two statements for each such row, because the first failure ends a statement. A block in PL/pgSQL, the
language of the triggers, can catch it. It creates nothing, and needs no right. A block has neither parameters nor a result, so
both are settings that end with the transaction.
"""

BEGIN_SEARCH = """
SELECT pg_catalog.set_config('embedding_operator.ids', $1::text[]::text, true),
    pg_catalog.set_config('embedding_operator.evaluate', $2::text, true)"""
"""$1 ids, $2 the statement that evaluates the texts of some ids, which are its $1."""

# A part that fails is split into two, down to single rows. The loop over the result runs the statement as a cursor, which
# PostgreSQL refuses for several statements in one text. A cancelled statement is not caught.
SEARCH = """
DO $search$
DECLARE
    ids text[] := pg_catalog.current_setting('embedding_operator.ids')::text[];
    parts int4range[] := ARRAY[pg_catalog.int4range(1, pg_catalog.cardinality(ids), '[]')];
    failing text[] := '{}';
    kinds text[] := '{}';
    part int4range;
    first integer;
    last integer;
    middle integer;
    code text;
    violated text;
    col text;
    tab text;
    evaluated record;
BEGIN
    WHILE pg_catalog.cardinality(parts) > 0 LOOP
        part := parts[pg_catalog.cardinality(parts)];
        parts := pg_catalog.trim_array(parts, 1);
        first := pg_catalog.lower(part);
        last := pg_catalog.upper(part) - 1;
        BEGIN
            FOR evaluated IN EXECUTE pg_catalog.current_setting('embedding_operator.evaluate') USING ids[first:last] LOOP
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            IF first = last THEN
                GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, violated = CONSTRAINT_NAME, col = COLUMN_NAME, tab = TABLE_NAME;
                failing := pg_catalog.array_append(failing, ids[first]);
                kinds := pg_catalog.array_append(kinds, pg_catalog.concat_ws(' ', code, violated, col, tab));
            ELSE
                middle := (first + last) / 2;
                parts := parts || pg_catalog.int4range(first, middle, '[]') || pg_catalog.int4range(middle + 1, last, '[]');
            END IF;
        END;
    END LOOP;
    PERFORM pg_catalog.set_config('embedding_operator.failing', failing::text, true),
        pg_catalog.set_config('embedding_operator.kinds', kinds::text, true);
END
$search$"""
"""Evaluates the texts, in parts."""

FOUND = """
SELECT * FROM unnest(pg_catalog.current_setting('embedding_operator.failing')::text[],
    pg_catalog.current_setting('embedding_operator.kinds')::text[])"""
"""→ id, kind of the failure, for each row whose text fails."""
