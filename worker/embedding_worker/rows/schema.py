"""Creates the operator's own objects for a source's table: book-keeping tables, triggers, the vector column.

Called by RowStore.prepare, once for each change of a source. Idempotent, and under an advisory lock, so that two replicas may do
it at the same time. It never changes the user's table beyond the one column and the triggers.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks, ownership
from embedding_worker.rows.adoption import ADOPTABLE
from embedding_worker.rows.change_marks import Trigger
from embedding_worker.rows.database import Database, Transaction
from embedding_worker.rows.earlier import RECORD_VECTOR_TYPE, adopt_earlier_marks, alter_bookkeeping
from embedding_worker.rows.inspection import inspect_table
from embedding_worker.rows.ownership import Claim, RecordedOwner
from embedding_worker.rows.psql_views import create_views
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.triggers import create_triggers, drop_triggers, find_triggers, schema_change
from embedding_worker.source import ExistingVectors, SourceConfig, TableColumn, has_same_vectors

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PreparedTable:
    statements: Statements
    trigger: Trigger
    paused_since: datetime | None
    """An administrator has paused the triggers."""
    adopts: bool = False
    """The first audit is to take over the vectors that it finds."""


async def configuration_on_record(database: Database, at: TableColumn) -> str | None:
    """The configuration that is served for this table and column (see SourceConfig.as_record); None if there is none yet."""
    async with database.transaction() as transaction:
        (known,) = (await transaction.fetch(change_marks.SOURCES_EXIST))[0]
        record = await transaction.fetch(change_marks.SOURCE_RECORD, at.bookkeeping_name) if known else []
    return str(record[0][2]) if record else None


async def prepare(database: Database, config: SourceConfig, claim: Claim | None = None) -> PreparedTable:
    """Claim the book-keeping for a source, and create what its statements need.

    Raises SourceRefused (OwnedElsewhere if another source owns the book-keeping), RowsLocked, DatabaseUnavailable.
    """
    statements, read = await inspect_table(database, config)
    layout = statements.layout
    trigger = change_marks.trigger(statements, read)
    await refuse_foreign(database, config.at, claim)
    await alter_bookkeeping(database, statements)
    async with schema_change(database) as transaction:
        await _create_bookkeeping(transaction, statements)
        if claim is not None:
            ownership.refuse_claim(config.at, claim, await _owner_on_record(transaction, config.at))
        if layout.column_missing:
            await transaction.fetch(change_marks.add_embedding_column(statements, config.model.dimensions))
            log.info("embedding column added", table=str(config.at), column=config.at.embedding_column)
        await transaction.fetch(change_marks.continue_sequence(statements))  # before the triggers lock the user's table
        paused_since = await _update_triggers(transaction, statements, trigger)
        adoptable = await transaction.fetch(ADOPTABLE, config.at.bookkeeping_name)
        await transaction.fetch(RECORD_VECTOR_TYPE, config.at.bookkeeping_name, statements.hashed_as)
        if claim is not None:
            owner = claim.owner
            await transaction.fetch(ownership.CLAIM, config.at.bookkeeping_name, owner.as_record(), owner.uid)
    await adopt_earlier_marks(database, statements)
    await create_views(database, statements)
    adopts = config.existing_vectors is ExistingVectors.ADOPT and bool(adoptable[0][0])
    return PreparedTable(Statements(config, replace(layout, column_missing=False)), trigger, paused_since, adopts)


async def refuse_foreign(database: Database, at: TableColumn, claim: Claim | None) -> None:
    """Raises SourceRefused if another source owns the book-keeping. Changes nothing."""
    if claim is not None:
        ownership.refuse_claim(at, claim, await owner_on_record(database, at))


async def owner_on_record(database: Database, at: TableColumn) -> RecordedOwner | None:
    """The source that owns the book-keeping of this table and column; None if there is none."""
    async with database.transaction() as transaction:
        if not (await transaction.fetch(change_marks.SOURCES_EXIST))[0][0]:
            return None
        return await _owner_on_record(transaction, at)


async def _owner_on_record(transaction: Transaction, at: TableColumn) -> RecordedOwner | None:
    rows = await transaction.fetch(ownership.OWNER_ON_RECORD, at.bookkeeping_name)
    return ownership.recorded_owner((rows[0][0], rows[0][1], rows[0][2]) if rows else None)


async def _create_bookkeeping(transaction: Transaction, statements: Statements) -> None:
    """Create the operator's schema and tables if they are missing. A role that may not create needs to create nothing then."""
    (schema_exists,) = (await transaction.fetch(change_marks.SCHEMA_EXISTS))[0]
    shared, own = False, False
    if schema_exists:
        shared, own = (await transaction.fetch(change_marks.BOOKKEEPING_EXISTS, statements.marks, statements.state))[0]
    wanted = [
        *(() if shared else change_marks.CREATE_SHARED[1:] if schema_exists else change_marks.CREATE_SHARED),
        *(() if own else change_marks.create_bookkeeping(statements)),
    ]
    for sql in wanted:
        await _create_own(transaction, sql)
    if wanted:
        log.info("book-keeping created", table=str(statements.config.at), marks=statements.marks)


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


async def _update_triggers(transaction: Transaction, statements: Statements, trigger: Trigger) -> datetime | None:
    """Create the triggers if they are not in force or read other columns, and drop them if none are wanted.

    After they had to be created, an audit of the whole table has to find what was not recorded. Returns since when they are
    paused.
    """
    at, in_force = statements.config.at, statements.config.as_record()
    record = await transaction.fetch(change_marks.SOURCE_RECORD, at.bookkeeping_name)
    paused = await transaction.fetch(change_marks.PAUSED_SINCE, at.bookkeeping_name)
    paused_since: datetime | None = paused[0][0] if paused else None
    found = await find_triggers(transaction, statements, trigger)
    wanted = change_marks.wants_trigger(statements) and paused_since is None
    definition = trigger.definition if wanted else ""
    created = wanted and (not found.in_force or not record or record[0][0] != definition)
    if created:
        await create_triggers(transaction, statements, trigger, found)
    if not wanted and found.present:
        await drop_triggers(transaction, at, trigger)
    if not record or (record[0][0], record[0][2]) != (definition, in_force):
        same = not record or has_same_vectors(statements.config, record[0][2])
        values = (at.bookkeeping_name, str(at), at.embedding_column, definition, in_force, same)
        await transaction.fetch(change_marks.RECORD_SOURCE, *values)
    if created:
        await transaction.fetch(change_marks.FORGET_FILLED, at.bookkeeping_name)
    return paused_since
