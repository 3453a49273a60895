"""Decides when a source that runs confirms its ownership and looks at its triggers, and whether it has to be set up again.

Called by the source's loop in each turn. The book-keeping's record is confirmed within ten seconds; the triggers are looked at
every minute.
"""

import structlog

from embedding_worker.clock import Clock
from embedding_worker.rows.watch import BookkeepingWatch

log = structlog.get_logger(__name__)

CONFIRM_EVERY_S = 8.0
"""A source with nothing to do has a turn every 9 s, and what a person changes there is to be noticed within ten."""
LOOK_EVERY_S = 60.0


class TableWatch:
    def __init__(self, watch: BookkeepingWatch, *, signature: str, clock: Clock) -> None:
        self._watch = watch
        self._signature = signature
        self._clock = clock
        self._confirmed_at = self._looked_at = clock.monotonic()
        self.outdated: str | None = None
        """Why the source has to be set up again; None if it need not be."""

    @property
    def paused_since(self) -> str | None:
        """Since when the triggers are paused, as it was at the set-up."""
        since = self._watch.paused_since
        return None if since is None else since.isoformat(timespec="seconds")

    async def step(self, *, filled: bool) -> None:
        """Confirm and look if it is time. `filled`: the loop believes that the whole table has been audited.

        Raises SourceRefused (OwnedElsewhere) if another source has taken over, RowsLocked or DatabaseUnavailable.
        """
        now = self._clock.monotonic()
        if now - self._confirmed_at >= CONFIRM_EVERY_S:
            await self._confirm(filled=filled)
            self._confirmed_at = now
        if now - self._looked_at >= LOOK_EVERY_S:
            if not await self._watch.triggers_in_force():
                self.outdated = "the triggers are not in force, or the table has changed"
            self._looked_at = now

    async def _confirm(self, *, filled: bool) -> None:
        confirmed = await self._watch.confirm_owner()
        if confirmed is None:
            self.outdated = "the record in the database was removed"
        elif confirmed.paused_since != self._watch.paused_since:
            self.outdated = "the triggers were paused or resumed"
        elif filled and confirmed.filled_for != self._signature:
            self.outdated = "a full audit was requested in the database"
