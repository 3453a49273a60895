"""When the next peek is due, what a peek wakes, and what follows where marks cannot be peeked at."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import pytest

from embedding_operator.reconciler import peeker as peeker_module
from embedding_operator.reconciler.peeker import (
    PEEK_EVERY_S,
    RETRY_S,
    UNAVAILABLE_PAUSE_S,
    PeekedMarks,
    Peeker,
    has_new,
    pause_s,
)
from embedding_worker.errors import DatabaseUnavailable, RowsRefused, SourceRefused, StatementTimedOut
from embedding_worker.rows.database import Database
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_database import FakeDatabase


@pytest.mark.parametrize(("took_s", "expected"), [(0.0, PEEK_EVERY_S), (0.02, PEEK_EVERY_S), (0.1, 0.5)])
def test_the_next_peek_follows_after_a_tenth_of_a_second_unless_peeks_are_slow(took_s: float, expected: float) -> None:
    assert pause_s(took_s) == expected


@pytest.mark.parametrize(
    ("newest", "before", "expected"),
    [(None, None, False), (5, None, True), (5, 5, False), (6, 5, True), (None, 5, False), (3, 5, True)],
)
def test_any_other_number_may_be_a_new_mark_also_a_lower_one(
    newest: int | None, before: int | None, expected: bool
) -> None:
    assert has_new(newest, before) is expected


class Peeked:
    """Sources whose marks are peeked at; the newest marks, and the errors, are what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.clock = FakeClock()
        self.newest: dict[str, int | None] = dict.fromkeys(names)
        self.errors: dict[str, Exception] = {}
        self.serializable = False
        self.statements: list[list[str]] = []
        self.woken: list[str] = []
        self.marks = {name: PeekedMarks(name) for name in names}
        monkeypatch.setattr(peeker_module, "newest_marks", self.newest_marks)
        self.peeker = Peeker(FakeDatabase(), clock=self.clock)

    async def newest_marks(self, database: Database, tables: Sequence[str]) -> list[int | None] | None:
        self.statements.append(list(tables))
        for table in tables:
            if table in self.errors:
                raise self.errors[table]
        return None if self.serializable else [self.newest[table] for table in tables]

    def wake(self, name: str) -> None:
        self.woken.append(name)

    async def peek(self) -> float:
        self.woken.clear()
        self.statements.clear()
        return await self.peeker.peek()


@pytest.fixture
def peeked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peeked]:
    made = Peeked(monkeypatch, "a", "b", "c")
    with ExitStack() as stack:
        for name, marks in made.marks.items():
            stack.enter_context(made.peeker.peeking(marks, partial(made.wake, name)))
        yield made


async def test_one_statement_serves_all_sources_and_wakes_those_with_a_new_mark(peeked: Peeked) -> None:
    assert await peeked.peek() == PEEK_EVERY_S
    assert (peeked.statements, peeked.woken) == ([["a", "b", "c"]], [])
    assert all(marks.is_current and marks.are_none for marks in peeked.marks.values())
    peeked.newest["b"] = 7
    await peeked.peek()
    assert (peeked.woken, peeked.marks["b"].are_new, peeked.marks["b"].are_none) == (["b"], True, False)
    await peeked.peek()
    assert peeked.woken == []


async def test_a_table_that_cannot_be_read_is_left_out_and_its_loop_is_woken(peeked: Peeked) -> None:
    await peeked.peek()
    peeked.errors["b"] = SourceRefused("DatabaseRefused", "relation does not exist")
    await peeked.peek()
    assert peeked.statements == [["a", "b", "c"], ["a"], ["b"], ["c"]]
    assert [name for name, marks in peeked.marks.items() if marks.is_current] == ["a", "c"]
    assert "b" in peeked.woken
    await peeked.peek()
    assert (peeked.statements, peeked.woken) == ([["a", "c"]], [])
    peeked.errors.clear()
    await peeked.clock.advance(RETRY_S)
    await peeked.peek()
    assert peeked.marks["b"].is_current


@pytest.mark.parametrize("error", [StatementTimedOut("a", "b", sqlstate="57014"), RowsRefused("a", "b")])
async def test_a_table_that_is_locked_for_long_keeps_no_other_from_being_peeked_at(
    peeked: Peeked, error: Exception
) -> None:
    peeked.errors["c"] = error
    await peeked.peek()
    peeked.newest["a"] = 3
    await peeked.peek()
    assert peeked.woken == ["a"]


@pytest.mark.parametrize("error", [DatabaseUnavailable("connection refused"), RuntimeError("odd")])
async def test_while_the_database_is_away_all_loops_look_by_themselves_and_peeks_are_rare(
    peeked: Peeked, error: Exception
) -> None:
    await peeked.peek()
    peeked.errors["a"] = error
    assert await peeked.peek() == UNAVAILABLE_PAUSE_S
    assert (peeked.statements, peeked.woken) == ([["a", "b", "c"]], ["a", "b", "c"])
    assert not any(marks.is_current for marks in peeked.marks.values())
    await peeked.peek()
    assert peeked.woken == []
    peeked.errors.clear()
    assert await peeked.peek() == PEEK_EVERY_S
    assert all(marks.is_current for marks in peeked.marks.values())


async def test_where_transactions_are_serializable_by_default_no_marks_are_current(peeked: Peeked) -> None:
    peeked.serializable = True
    await peeked.peek()
    assert not any(marks.is_current for marks in peeked.marks.values())
    await peeked.peek()
    assert peeked.statements == []


async def test_nothing_is_sent_while_there_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    peeked = Peeked(monkeypatch, "a")
    running = asyncio.create_task(peeked.peeker.run())
    await peeked.clock.advance(1)
    assert peeked.statements == []
    with peeked.peeker.peeking(peeked.marks["a"], lambda: None):
        await peeked.clock.advance(1)
        assert 8 <= len(peeked.statements) <= 11
    assert not peeked.marks["a"].is_current
    await peeked.clock.advance(PEEK_EVERY_S)
    peeked.statements.clear()
    await peeked.clock.advance(1)
    await settle()
    assert peeked.statements == []
    running.cancel()
