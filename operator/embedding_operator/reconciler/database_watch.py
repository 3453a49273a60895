"""Whether the database answers, for /readyz: a pod whose DATABASE_URL is wrong must not become ready because nobody has
declared a table yet, or because a source's loop has not got so far. Started by the process.
"""

import asyncio

import structlog

from embedding_worker.errors import EmbeddingError
from embedding_worker.rows.database import Database

log = structlog.get_logger(__name__)

ASK_EVERY_S = 5.0


class DatabaseWatch:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.waiting_for: str | None = "the database has not answered yet"
        """Why the database can't be had, in a sentence."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.waiting_for = await self.problem()
            await asyncio.sleep(ASK_EVERY_S)

    async def problem(self) -> str | None:
        """Ask once. Whatever comes of it is an answer: the watch must not end before the process does."""
        try:
            async with self._database.transaction():
                return None
        except EmbeddingError as exc:
            return f"the database: {exc}"
        except Exception as exc:
            log.exception("database not asked by an unexpected error")
            return f"the database could not be asked ({type(exc).__name__}): see the log, and report it"
