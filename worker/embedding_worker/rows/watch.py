"""Finds out, while a source runs, whether its book-keeping is still its own and its triggers are still in force.

Called by the operator's table_watch.py: the owner is confirmed every few seconds, by an update of one row; the table is inspected
and its triggers are looked at every minute.
"""

from dataclasses import dataclass
from datetime import datetime

from embedding_worker.rows import change_marks
from embedding_worker.rows.change_marks import SOURCES_EXIST, wants_trigger
from embedding_worker.rows.database import Database
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.inspection import inspect_table
from embedding_worker.rows.ownership import CONFIRM, OWNER_ON_RECORD, Claim, Owner, owned_elsewhere, recorded_owner
from embedding_worker.rows.schema import PreparedTable, prepare
from embedding_worker.rows.store import RowStore
from embedding_worker.rows.table import quoted
from embedding_worker.rows.triggers import find_triggers
from embedding_worker.source import SourceConfig, TableColumn

# The triggers were created before, the table still exists, and one of them, its function's table, or the id is missing.
EDITS_ARE_LOST = f"""
SELECT s.trigger_definition <> '' AND to_regclass($2) IS NOT NULL AND NOT (
    to_regclass($3) IS NOT NULL
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass($2) AND a.attname = $4 AND NOT a.attisdropped)
    AND (SELECT count(*) = 2 FROM pg_trigger t WHERE t.tgrelid = to_regclass($2) AND t.tgname = ANY($5::text[])
         AND t.tgenabled IN ('O', 'A')))
FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1
"""


async def edits_are_lost(database: Database, at: TableColumn) -> bool:
    """Whether edits of a table that was set up before are not recorded at present. Reads the catalogs only."""
    stem = at.bookkeeping_name
    table, marks = f"{quoted(at.schema)}.{quoted(at.table)}", f"{SCHEMA}.{quoted(stem + '_marks')}"
    async with database.transaction() as transaction:
        if not (await transaction.fetch(SOURCES_EXIST))[0][0]:
            return False
        names = [f"{stem}_ins", f"{stem}_upd"]
        found = await transaction.fetch(EDITS_ARE_LOST, stem, table, marks, at.id_column, names)
    return bool(found and found[0][0])


@dataclass(frozen=True)
class Confirmed:
    """What the record of a source said when its owner was confirmed."""

    paused_since: datetime | None
    filled_for: str | None


async def claim_table(database: Database, config: SourceConfig, claim: Claim) -> tuple[RowStore, "BookkeepingWatch"]:
    """Claim the table for a source, create what the source needs in the database, and return its store and its watch.

    Raises SourceRefused (someone must act), RowsLocked or DatabaseUnavailable (try again later).
    """
    prepared = await prepare(database, config, claim)
    store = RowStore(database, prepared.statements, adopts=prepared.adopts)
    return store, BookkeepingWatch(database, prepared, claim.owner)


class BookkeepingWatch:
    def __init__(self, database: Database, prepared: PreparedTable, owner: Owner) -> None:
        self._database = database
        self._prepared = prepared
        self._owner = owner
        self.paused_since = prepared.paused_since
        """Since when the triggers are paused, at the set-up."""

    async def confirm_owner(self) -> Confirmed | None:
        """Record that the owner still exists. None if the record was removed: the source has to be set up again.

        Raises SourceRefused (OwnedElsewhere) if another source has taken the book-keeping over.
        """
        at = self._prepared.statements.config.at
        async with self._database.transaction() as transaction:
            found = await transaction.fetch(CONFIRM, at.bookkeeping_name, self._owner.uid)
            if found:
                return Confirmed(*found[0])
            rows = await transaction.fetch(OWNER_ON_RECORD, at.bookkeeping_name)
        recorded = recorded_owner((rows[0][0], rows[0][1], rows[0][2]) if rows else None)
        if recorded is not None:
            raise owned_elsewhere(at, recorded, self._owner)
        return None

    async def triggers_in_force(self) -> bool:
        """Whether the triggers are as the set-up has left them, which includes that there are none if none are wanted.

        False also if what the set-up has found out about the table has changed: its types, policies, rights or search path.
        Raises SourceRefused if the table cannot be served any more.
        """
        statements, trigger = self._prepared.statements, self._prepared.trigger
        present, read = await inspect_table(self._database, statements.config)
        if present.layout != statements.layout or change_marks.trigger(present, read) != trigger:
            return False
        async with self._database.transaction() as transaction:
            found = await find_triggers(transaction, statements, trigger)
        wanted = wants_trigger(statements) and self.paused_since is None
        return found.in_force if wanted else not found.present
