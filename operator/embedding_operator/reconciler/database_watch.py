"""Whether the database answers, asked while no source's loop does: a pod whose DATABASE_URL is wrong must not become ready
only because nobody has declared a table yet. Started by the process.
"""

import asyncio
from collections.abc import Callable

from embedding_worker.errors import DatabaseUnavailable, RowsLocked
from embedding_worker.rows.database import Database

ASK_EVERY_S = 2.0


class DatabaseWatch:
    def __init__(self, database: Database, *, is_asked_anyway: Callable[[], bool]) -> None:
        self._database = database
        self._is_asked_anyway = is_asked_anyway
        self.waiting_for: str | None = "the database has not answered yet"
        """Why the database can't be had, in a sentence; the loops of sources tell it themselves."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.waiting_for = None if self._is_asked_anyway() else await self._problem()
            await asyncio.sleep(ASK_EVERY_S)

    async def _problem(self) -> str | None:
        try:
            async with self._database.transaction():
                return None
        except (DatabaseUnavailable, RowsLocked) as exc:
            return f"the database: {exc}"
