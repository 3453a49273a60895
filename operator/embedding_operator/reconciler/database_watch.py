"""Knows whether the database answers, for /readyz: a pod with a wrong DATABASE_URL must not become ready because no table is
declared yet, or because no source's loop has reached the database. Started by the process.

Every 5 s it looks whether anyone has had an answer meanwhile, and asks only if not: so an outage shows up to 5 s later.
"""

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import EmbeddingError
from embedding_worker.rows.database import Database

log = structlog.get_logger(__name__)

ASK_EVERY_S = 5.0


class DatabaseWatch:
    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.waiting_for: str | None = "the database has not answered yet"
        """Why the database cannot be reached, in a sentence; None while it answers."""
        self._answers_before = database.answers

    async def run(self) -> None:
        """Run until cancelled. It asks only if the database has given no answer to anyone since it looked last."""
        while True:
            if self._database.answers == self._answers_before:
                self.waiting_for = await self.find_problem()
            else:
                self.waiting_for = None
            self._answers_before = self._database.answers
            await self._clock.sleep(ASK_EVERY_S)

    async def find_problem(self) -> str | None:
        """Ask once. Never raises: the watch must not end before the process does."""
        try:
            async with self._database.transaction():
                return None
        except EmbeddingError as exc:
            return f"the database: {exc}"
        except Exception as exc:
            log.exception("database not asked because of an unexpected error")
            return f"the database could not be asked ({type(exc).__name__}): see the log, and report it"
