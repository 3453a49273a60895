"""What /readyz says of the database, whatever comes of asking it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from embedding_operator.reconciler.database_watch import DatabaseWatch
from embedding_worker.errors import DatabaseUnavailable, RowsRefused
from embedding_worker.rows.database import Database


class Answers:
    """A database that answers, or raises this."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        if self.error is not None:
            raise self.error
        yield


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, None),
        (DatabaseUnavailable("no connection could be made"), "the database: no connection could be made"),
        (RowsRefused("Refused", "a pooler refuses"), "the database: a pooler refuses"),
        (RuntimeError("odd"), "the database could not be asked (RuntimeError): see the log, and report it"),
    ],
)
async def test_whatever_the_database_says_is_an_answer(error: Exception | None, said: str | None) -> None:
    assert await DatabaseWatch(cast(Database, Answers(error))).problem() == said


def test_nothing_is_ready_before_the_first_answer() -> None:
    assert DatabaseWatch(cast(Database, Answers())).waiting_for == "the database has not answered yet"
