"""The database is asked until it answers, and what it does not answer for long is known."""

import asyncio

import pytest

from embedding_worker.errors import DatabaseUnavailable, RowsLocked
from embedding_worker.patience import SHOWN_AFTER_TRIES, Unanswered, until_answered
from tests.support.fake_clock import FakeClock, settle

FULL = DatabaseUnavailable("the disk of PostgreSQL is full")

LOCKED = RowsLocked("a lock timeout")


class Database:
    """Answers after so many failures."""

    def __init__(self, failures: int, error: Exception = FULL) -> None:
        self.failures = failures
        self.error = error

    async def answer(self) -> str:
        if self.failures > 0:
            self.failures -= 1
            raise self.error
        return "answer"


@pytest.mark.parametrize(
    ("failures", "error", "shown"),
    [
        (SHOWN_AFTER_TRIES - 1, FULL, None),
        (SHOWN_AFTER_TRIES, FULL, FULL),
        (SHOWN_AFTER_TRIES, LOCKED, LOCKED),
    ],
)
async def test_a_statement_that_is_not_answered_for_several_tries_is_known_until_it_is(
    failures: int, error: Exception, shown: Exception | None
) -> None:
    clock, unanswered, database = FakeClock(), Unanswered(), Database(failures, error)
    asked = asyncio.create_task(until_answered("write", database.answer, clock=clock, unanswered=unanswered))
    await settle()
    for _ in range(60):
        if not database.failures:
            break
        await clock.advance(0.1)
    assert unanswered.error is shown
    await clock.advance(5)
    assert (await asked, unanswered.error) == ("answer", None)


async def test_a_statement_that_is_given_up_is_forgotten() -> None:
    clock, unanswered = FakeClock(), Unanswered()
    asked = asyncio.create_task(until_answered("write", Database(99).answer, clock=clock, unanswered=unanswered))
    await settle()
    for _ in range(30):
        await clock.advance(0.1)
    assert unanswered.error is FULL
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert unanswered.error is None


async def test_of_several_statements_those_that_still_wait_are_known() -> None:
    unanswered = Unanswered()
    for statement in ("one", "other"):
        unanswered.record(statement, FULL, tries=SHOWN_AFTER_TRIES)
    unanswered.forget("one")
    assert unanswered.error is FULL
    unanswered.forget("other")
    assert unanswered.error is None
