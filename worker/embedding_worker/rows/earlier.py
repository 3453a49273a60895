"""Brings the book-keeping that an earlier version has created, or that has another type of ids, to what the statements need.

Called by schema.py at each set-up. It changes the operator's own tables only, which no application waits for, except that the
table of change marks of 0.1.0 (`…_due`) is read and dropped after the triggers have been replaced.
"""

import structlog

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks
from embedding_worker.rows.database import Database, Transaction
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import quoted
from embedding_worker.rows.triggers import schema_change

log = structlog.get_logger(__name__)

LONGEST_CHANGE_S = 3_600.0
"""A table of states with millions of rows is rewritten when the id column gets another type."""
SOURCES_COLUMNS = {
    "owner": "text",
    "owner_seen_at": "timestamptz",
    "owner_changes": "bigint NOT NULL DEFAULT 0",
    "triggers_paused_at": "timestamptz",
    "vector_type": "text",
    "adoptable": "boolean NOT NULL DEFAULT false",
    "adopted": "bigint NOT NULL DEFAULT 0",
}
BACKFILLS_COLUMNS = {"paused": "boolean NOT NULL DEFAULT false"}
USAGE_COLUMNS = {"tokens_reported": "bigint NOT NULL DEFAULT 0", "texts_cut": "bigint NOT NULL DEFAULT 0"}
STATE_COLUMNS = {"vector_hash": "bytea", "blank": "boolean NOT NULL DEFAULT false"}
ANOTHER_VECTOR_TYPE = (
    f"SELECT true FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1 AND s.vector_type IS DISTINCT FROM $2"
)
RECORD_VECTOR_TYPE = (
    f"UPDATE {SCHEMA}.sources SET vector_type = $2 WHERE bookkeeping = $1 AND vector_type IS DISTINCT FROM $2"
)
COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) = $2 FROM pg_attribute a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""


async def alter_bookkeeping(database: Database, statements: Statements) -> None:
    """Add columns, and change the type of the ids, where the book-keeping exists and is different.

    Raises SourceRefused if another role owns it, RowsLocked or DatabaseUnavailable.
    """
    id_type = statements.layout.id_type
    async with database.transaction() as transaction:
        sources = await _columns(transaction, f"{SCHEMA}.sources", id_type)
        backfills = await _columns(transaction, f"{SCHEMA}.backfills", id_type)
        usage = await _columns(transaction, f"{SCHEMA}.usage", id_type)
        state = await _columns(transaction, statements.state, id_type)
    wanted = [
        *_added(f"{SCHEMA}.sources", SOURCES_COLUMNS, sources),
        *_added(f"{SCHEMA}.backfills", BACKFILLS_COLUMNS, backfills),
        *_added(f"{SCHEMA}.usage", USAGE_COLUMNS, usage),
        *_added(statements.state, STATE_COLUMNS, state),
    ]
    if wanted:
        async with schema_change(database) as transaction:
            for sql in wanted:
                await transaction.fetch(sql)
    if state and not state["id"]:
        await _change_id_type(database, statements)
    if sources and state:
        await _forget_hashes_of_another_type(database, statements)


async def _forget_hashes_of_another_type(database: Database, statements: Statements) -> None:
    """The vector column has got another type, such as halfvec, or an earlier version has computed other hashes.

    The vectors are trusted, so that no row is embedded again.
    """
    at, hashed_as = statements.config.at, statements.hashed_as
    async with schema_change(database, timeout_s=LONGEST_CHANGE_S) as transaction:
        changed = await transaction.fetch(ANOTHER_VECTOR_TYPE, at.bookkeeping_name, hashed_as)
        if changed:
            await transaction.fetch(f"UPDATE {statements.state} SET vector_hash = NULL WHERE vector_hash IS NOT NULL")
            await transaction.fetch(RECORD_VECTOR_TYPE, at.bookkeeping_name, hashed_as)
            log.info("hashes of the vectors are computed again", table=str(at), hashed_as=hashed_as)


async def _columns(transaction: Transaction, table: str, id_type: str) -> dict[str, bool]:
    """The columns of a table, and whether they have the type of the ids; nothing if the table does not exist."""
    return dict(await transaction.fetch(COLUMNS, table, id_type))


def _added(table: str, wanted: dict[str, str], present: dict[str, bool]) -> list[str]:
    missing = [f"ADD COLUMN IF NOT EXISTS {name} {kind}" for name, kind in wanted.items() if name not in present]
    return [f"ALTER TABLE {table} {', '.join(missing)}"] if present and missing else []


async def _change_id_type(database: Database, statements: Statements) -> None:
    """The id column has got another type. States whose ids are not those of a row would prevent the change, and are deleted."""
    state, id_type = statements.state, statements.layout.id_type
    id_column = quoted(statements.config.at.id_column)
    alter = f"ALTER TABLE {state} ALTER COLUMN id TYPE {id_type} USING id::text::{id_type}"
    gone = f"DELETE FROM {state} s WHERE NOT EXISTS (SELECT FROM {statements.table} t WHERE t.{id_column}::text = s.id::text)"
    try:
        async with schema_change(database, timeout_s=LONGEST_CHANGE_S) as transaction:
            await transaction.fetch(alter)
    except SourceRefused:
        async with schema_change(database, timeout_s=LONGEST_CHANGE_S) as transaction:
            await transaction.fetch(gone)
            await transaction.fetch(alter)
    log.info("type of the ids in the book-keeping changed", table=str(statements.config.at), id_type=id_type)


async def adopt_earlier_marks(database: Database, statements: Statements) -> None:
    """Move the marks of 0.1.0 to the present table, and drop theirs. The triggers must have been replaced before.

    In 0.1.0 a mark with `moved` said that the state of its id may be that of another row, so that state is deleted.
    """
    stem = statements.config.at.bookkeeping_name
    due = f"{SCHEMA}.{quoted(stem + '_due')}"
    async with database.transaction() as transaction:
        (exists,) = (await transaction.fetch("SELECT to_regclass($1) IS NOT NULL", due))[0]
    if not exists:
        return
    async with schema_change(database, timeout_s=LONGEST_CHANGE_S) as transaction:
        await transaction.fetch(f"LOCK TABLE {due} IN ACCESS EXCLUSIVE MODE")
        await transaction.fetch(
            f"DELETE FROM {statements.state} s USING {due} d WHERE d.moved AND d.id::text = s.id::text"
        )
        await transaction.fetch(
            f"INSERT INTO {statements.marks} (id, since, edited) SELECT d.id::text, d.since, d.edited FROM {due} d ORDER BY d.seq"
        )
        await transaction.fetch(f"DROP TABLE {due}")
        await transaction.fetch(change_marks.FORGET_FILLED, stem)
    log.info("change marks of an earlier version adopted", table=str(statements.config.at))
