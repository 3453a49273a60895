"""Creates the operator's own objects for a source's table: book-keeping tables, triggers, the vector column.

Called by RowStore.prepare, once for each change of a source. Idempotent, and under an advisory lock, so that two replicas may do
it at the same time. It never changes the user's table beyond the one column and the triggers.
"""

from dataclasses import replace

import structlog

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks
from embedding_worker.rows.database import Database, Transaction
from embedding_worker.rows.inspection import inspect_table
from embedding_worker.rows.statements import Statements
from embedding_worker.source import SourceConfig, TableColumn

log = structlog.get_logger(__name__)

# Any constant that no other program uses in this database: the first 8 bytes of sha256("embedding-operator").
ADVISORY_LOCK = -0x45E1_AA4B_A7A3_9703
# Schema changes wait for the table's lock, but never so long that the application's statements queue up behind them.
SCHEMA_LOCK_TIMEOUT = "2s"


async def configuration_on_record(database: Database, at: TableColumn) -> str | None:
    """The configuration that is served for this table and column (see SourceConfig.as_record); None if there is none yet."""
    async with database.transaction() as transaction:
        (known,) = (await transaction.fetch(change_marks.SOURCES_EXIST))[0]
        record = await transaction.fetch(change_marks.SOURCE_RECORD, at.bookkeeping_name) if known else []
    return str(record[0][2]) if record else None


async def prepare_table(database: Database, config: SourceConfig) -> Statements:
    """Create what the source's statements need, and return them. Raises SourceRefused, RowsLocked, DatabaseUnavailable."""
    statements, read = await inspect_table(database, config)
    layout = statements.layout
    trigger = change_marks.trigger(statements, read)
    async with database.transaction(lock_timeout=SCHEMA_LOCK_TIMEOUT, quoting=True) as transaction:
        await transaction.fetch("SELECT pg_advisory_xact_lock($1::bigint)", ADVISORY_LOCK)
        await _create_bookkeeping(transaction, statements)
        if layout.column_missing:
            await transaction.fetch(change_marks.add_embedding_column(statements, config.model.dimensions))
            log.info("embedding column added", table=str(config.at), column=config.at.embedding_column)
        await _update_triggers(transaction, statements, trigger)
    return Statements(config, replace(layout, column_missing=False))


async def _create_bookkeeping(transaction: Transaction, statements: Statements) -> None:
    """Create the operator's schema and tables if they are missing. A role that may not create needs to create nothing then."""
    (schema_exists,) = (await transaction.fetch(change_marks.SCHEMA_EXISTS))[0]
    shared, own, id_type = (False, False, None)
    if schema_exists:
        shared, own, id_type = (
            await transaction.fetch(change_marks.BOOKKEEPING_EXISTS, statements.marks, statements.state)
        )[0]
    refuse_another_id_type(statements, id_type)
    wanted = [
        *(() if shared else change_marks.CREATE_SHARED[1:] if schema_exists else change_marks.CREATE_SHARED),
        *(() if own else change_marks.create_bookkeeping(statements)),
    ]
    for sql in wanted:
        await _create_own(transaction, sql)
    if wanted:
        log.info("book-keeping created", table=str(statements.config.at), marks=statements.marks)


def refuse_another_id_type(statements: Statements, id_type: str | None) -> None:
    """Raises SourceRefused if the book-keeping exists with another id type: the trigger could then make the application's own
    writes fail.
    """
    if id_type not in (None, statements.layout.id_type):
        at, wanted_type = statements.config.at, statements.layout.id_type
        raise SourceRefused(
            "IdTypeChanged",
            f"{at}.{at.id_column} is {wanted_type}, and its book-keeping is of {id_type}: ALTER TABLE {statements.state} "
            f"ALTER COLUMN id TYPE {wanted_type}; or drop it, to embed all rows again",
        )


async def _create_own(transaction: Transaction, sql: str) -> None:
    try:
        await transaction.fetch(sql)
    except SourceRefused as exc:
        raise schema_not_creatable(exc.message) from exc


def schema_not_creatable(why: str) -> SourceRefused:
    return SourceRefused(
        "SchemaMissing",
        f"the operator's role may not create its own schema ({why}): GRANT CREATE ON DATABASE to it, "
        "or create what is missing as another role",
    )


def trigger_not_creatable(at: TableColumn, why: str) -> SourceRefused:
    return SourceRefused(
        "SchemaMissing",
        f"the trigger on {at} could not be created ({why}): GRANT TRIGGER ON {at} to the operator's role, "
        "or set spec.changeDetection to Audit",
    )


def trigger_not_droppable(at: TableColumn, trigger: change_marks.Trigger, why: str) -> SourceRefused:
    return SourceRefused(
        "Forbidden",
        f"the trigger on {at} could not be dropped ({why}): as the table's owner {'; '.join(trigger.drop)}, "
        "or set spec.changeDetection to Trigger",
    )


async def _update_triggers(transaction: Transaction, statements: Statements, trigger: change_marks.Trigger) -> None:
    """Create the triggers if they are missing or read other columns, and drop them if none are wanted."""
    layout = statements.layout
    record = await transaction.fetch(change_marks.SOURCE_RECORD, statements.config.at.bookkeeping_name)
    present = {
        name for name, _ in await transaction.fetch(change_marks.TRIGGERS_PRESENT, layout.oid, list(trigger.names))
    }
    wanted = change_marks.wants_trigger(statements)
    definition = trigger.definition if wanted else ""
    if wanted and (present != set(trigger.names) or not record or record[0][0] != definition):
        for sql in trigger.create + (trigger.enable_always if layout.owned else ()):
            try:
                await transaction.fetch(sql)
            except SourceRefused as exc:
                raise trigger_not_creatable(statements.config.at, exc.message) from exc
        log.info("trigger created", table=str(statements.config.at))
    if not wanted and present:
        for sql in trigger.drop:
            try:
                await transaction.fetch(sql)
            except SourceRefused as exc:
                raise trigger_not_droppable(statements.config.at, trigger, exc.message) from exc
        log.info("trigger dropped", table=str(statements.config.at))
    at, in_force = statements.config.at, statements.config.as_record()
    if not record or (record[0][0], record[0][2]) != (definition, in_force):
        await transaction.fetch(
            change_marks.RECORD_SOURCE, at.bookkeeping_name, str(at), at.embedding_column, definition, in_force
        )
