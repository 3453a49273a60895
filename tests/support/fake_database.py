"""A database that answers, or raises an error, for unit tests of what holds one. No statement can be sent to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from embedding_worker.rows.database import Database, Transaction


class FakeDatabase(Database):
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        """Raised by every transaction and every rotation; None where the database answers."""
        self.urls: list[str] = []
        """The URLs that it was moved to."""
        self.transactions = 0
        """How many were begun, those that failed included."""
        self.answers = 0

    @asynccontextmanager
    async def transaction(self, **_: Any) -> AsyncIterator[Transaction]:
        self.transactions += 1
        if self.error is not None:
            raise self.error
        yield cast(Transaction, None)

    async def move_to(self, url: str) -> None:
        if self.error is not None:
            raise self.error
        self.urls.append(url)
