"""The SQL that removes what the operator has created for one table and column. Pure; nothing here runs it.

Called by the kubectl plugin's `remove`, for the administrator of the database; docs/database.md shows the same SQL. The names
depend on schema, table and column alone, so that no database is asked. The vector column stays.
"""

from embedding_worker.rows.change_marks import SHARED_TABLES, dollar_quoted, drop_triggers, literal, marking_function
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.table import qualified, quoted
from embedding_worker.source import TableColumn

WITHOUT_RECORDS = ("rate_limits",)
"""The tables whose rows belong to no source."""
RECORDS = tuple(table for table in reversed(SHARED_TABLES) if table not in WITHOUT_RECORDS)
"""The tables of all sources that have rows of each; `sources`, which names them, is the last one."""


def remove_bookkeeping(at: TableColumn, uid: str) -> tuple[str, ...]:
    """One transaction: it is repeated as a whole where a table is in use, and changes nothing where it is run once more.

    It fails where another source than that of this uid owns the book-keeping by then.
    """
    stem = at.bookkeeping_name
    tables = ", ".join(f"{SCHEMA}.{quoted(stem + suffix)}" for suffix in ("_marks", "_state"))
    rows = f"{SCHEMA}.{quoted(stem + '_rows')}"
    return (
        "BEGIN",
        "SET LOCAL lock_timeout = '2s'",
        _refuse_other_owner(stem, uid),
        drop_triggers(marking_function(stem)),
        f"DROP TABLE IF EXISTS {tables}",
        f"DROP VIEW IF EXISTS {rows}",
        f"DROP FUNCTION IF EXISTS {rows}",
        *(f"DELETE FROM {SCHEMA}.{table} WHERE bookkeeping = {literal(stem)}" for table in RECORDS),
        "COMMIT",
    )


def _refuse_other_owner(stem: str, uid: str) -> str:
    """No source becomes the owner before the transaction ends. An earlier version has created the table without the column."""
    body = f"""
DECLARE owned jsonb;
BEGIN
  SELECT (to_jsonb(s) ->> 'owner')::jsonb
  INTO owned FROM {SCHEMA}.sources s
  WHERE s.bookkeeping = {literal(stem)} FOR UPDATE;
  IF owned ->> 'uid' <> {literal(uid)} THEN
    RAISE EXCEPTION 'nothing is removed: EmbeddingSource %/%, uid %, owns it',
      owned ->> 'namespace', owned ->> 'name', owned ->> 'uid';
  END IF;
END """
    return f"DO {dollar_quoted(body)}"


def drop_vectors(at: TableColumn) -> str:
    """Drops the column with all vectors, as the owner of the table."""
    return f"ALTER TABLE {qualified(at)} DROP COLUMN {quoted(at.embedding_column)}"
