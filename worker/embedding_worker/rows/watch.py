"""Finds out, while a source runs, whether its book-keeping is still its own and its triggers are still in force.

Called by the operator's table_watch.py every few seconds. Cheap: one update of one row, and one query of the catalogs.
"""

from dataclasses import dataclass
from datetime import datetime

from embedding_worker.rows.change_marks import wants_trigger
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import CONFIRM, OWNER_ON_RECORD, Owner, owned_elsewhere, recorded_owner
from embedding_worker.rows.schema import PreparedTable
from embedding_worker.rows.triggers import find_triggers


@dataclass(frozen=True)
class Confirmed:
    """What the record of a source said when its owner was confirmed."""

    paused_since: datetime | None
    filled_for: str | None


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
            found = await transaction.fetch(CONFIRM, at.bookkeeping_name, self._owner.as_record())
            if found:
                return Confirmed(*found[0])
            rows = await transaction.fetch(OWNER_ON_RECORD, at.bookkeeping_name)
        recorded = recorded_owner((rows[0][0], rows[0][1]) if rows else None)
        if recorded is not None:
            raise owned_elsewhere(at, recorded)
        return None

    async def triggers_in_force(self) -> bool:
        """Whether the triggers are as the set-up has left them, which includes that there are none if none are wanted."""
        statements, trigger = self._prepared.statements, self._prepared.trigger
        async with self._database.transaction() as transaction:
            found = await find_triggers(transaction, statements, trigger)
        wanted = wants_trigger(statements) and self.paused_since is None
        return found.in_force if wanted else not found.present
