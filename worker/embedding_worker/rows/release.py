"""Releases the book-keeping of a deleted source: another source may use it, and its triggers are dropped.

Called by the operator's deleted_sources.py. Book-keeping and vectors stay.
"""

import structlog

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks
from embedding_worker.rows.backfills import BACKFILLS_EXIST, END_OF_RELEASED
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import FORGET_OWNER, OWNERS_EXIST, RELEASE, UNSEEN, Owner
from embedding_worker.rows.triggers import schema_change

log = structlog.get_logger(__name__)


async def release_owner(database: Database, owner: Owner) -> list[str]:
    """The source was deleted: another one may use its book-keeping from now on. Returns the names of its book-keeping."""
    async with database.transaction() as transaction:
        if not (await transaction.fetch(OWNERS_EXIST))[0][0]:
            return []
        released = [row[0] for row in await transaction.fetch(RELEASE, owner.uid)]
        if released and (await transaction.fetch(BACKFILLS_EXIST))[0][0]:
            await transaction.fetch(END_OF_RELEASED, released)
    return released


async def drop_triggers_of(database: Database, bookkeeping: str, owner: Owner) -> str | None:
    """Drop the triggers of a deleted source. Book-keeping and vectors stay.

    Returns the SQL to run as the owner of the function if this role may not drop it, and None otherwise. Raises RowsLocked.
    """
    drop = change_marks.drop_triggers(change_marks.marking_function(bookkeeping))
    try:
        async with schema_change(database) as transaction:
            forgotten = await transaction.fetch(FORGET_OWNER, bookkeeping, owner.uid)
            if forgotten:  # otherwise another source uses the triggers
                await transaction.fetch(drop)
                log.info("trigger dropped", table=forgotten[0][0], source=str(owner))
    except SourceRefused:
        async with database.transaction() as transaction:
            await transaction.fetch(FORGET_OWNER, bookkeeping, owner.uid)
        return drop
    return None


async def unseen_owners(database: Database) -> list[Owner]:
    """The owners that were deleted, or not confirmed for a minute."""
    async with database.transaction() as transaction:
        if not (await transaction.fetch(OWNERS_EXIST))[0][0]:
            return []
        return [Owner.of_record(row[0]) for row in await transaction.fetch(UNSEEN)]
