"""What /readyz says of the database, whatever the answer of the database is."""

import asyncio

import pytest

from embedding_operator.reconciler.database_watch import DatabaseWatch
from embedding_worker.errors import DatabaseUnavailable, RowsRefused
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_database import FakeDatabase


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (None, None),
        (DatabaseUnavailable("connection refused"), "the database: connection refused"),
        (RowsRefused("Refused", "a pooler refuses"), "the database: a pooler refuses"),
        (RuntimeError("odd"), "the database could not be asked (RuntimeError): see the log, and report it"),
    ],
)
async def test_every_answer_and_every_error_is_reported(error: Exception | None, problem: str | None) -> None:
    assert await watch_of(FakeDatabase(error), FakeClock()).find_problem() == problem


def test_nothing_is_ready_before_the_first_answer() -> None:
    assert watch_of(FakeDatabase(), FakeClock()).waiting_for == "the database has not answered yet"


async def test_the_database_is_asked_every_five_seconds() -> None:
    clock, database = FakeClock(), FakeDatabase()
    watch = watch_of(database, clock)
    running = asyncio.create_task(watch.run())
    await settle()
    assert watch.waiting_for is None
    database.error = DatabaseUnavailable("connection refused")
    await clock.advance(4.9)
    assert watch.waiting_for is None
    await clock.advance(0.1)
    assert watch.waiting_for == "the database: connection refused"
    database.error = None
    await clock.advance(5)
    assert watch.waiting_for is None
    running.cancel()


async def test_the_database_is_not_asked_while_it_answers_others() -> None:
    clock, database = FakeClock(), FakeDatabase()
    running = asyncio.create_task(watch_of(database, clock).run())
    await settle()
    asked = database.transactions
    for _ in range(3):
        database.answers += 1
        await clock.advance(5)
    assert database.transactions == asked
    await clock.advance(5)
    assert database.transactions == asked + 1
    running.cancel()


def watch_of(database: FakeDatabase, clock: FakeClock) -> DatabaseWatch:
    return DatabaseWatch(database, clock=clock)
