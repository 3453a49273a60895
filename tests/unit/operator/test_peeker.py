"""When the next peek is due, what a peek wakes, and what follows where marks cannot be peeked at."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import pytest

from embedding_operator.reconciler import peeker as peeker_module
from embedding_operator.reconciler.peeker import (
    CURRENT_FOR_S,
    LONGEST_PAUSE_S,
    PEEK_EVERY_S,
    RETRY_S,
    TIMED_OUT_IN_A_ROW,
    UNAVAILABLE_PAUSE_S,
    PeekedMarks,
    Peeker,
    may_have_new,
    pause_s,
)
from embedding_worker.errors import DatabaseUnavailable, RowsRefused, SourceRefused, StatementTimedOut
from embedding_worker.rows.database import Database
from embedding_worker.rows.peek import PEEK_WITHIN_S
from tests.support.fake_clock import FakeClock, let_time_pass, settle
from tests.support.fake_database import FakeDatabase


@pytest.mark.parametrize(("took_s", "expected"), [(0.0, PEEK_EVERY_S), (0.02, PEEK_EVERY_S), (0.1, 0.5), (4, 1)])
def test_the_next_peek_follows_after_a_tenth_of_a_second_and_where_peeks_are_slow_after_a_second(
    took_s: float, expected: float
) -> None:
    assert pause_s(took_s) == expected


@pytest.mark.parametrize(
    ("newest", "before", "expected"),
    [(None, None, False), (5, None, True), (5, 5, False), (6, 5, True), (None, 5, False), (3, 5, True)],
)
def test_any_other_number_may_be_a_new_mark_also_a_lower_one(
    newest: int | None, before: int | None, expected: bool
) -> None:
    assert may_have_new(newest, before) is expected


class Peeked:
    """Sources whose marks are peeked at; the newest marks, and the errors, are what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.clock = FakeClock()
        self.newest: dict[str, int | None] = dict.fromkeys(names)
        self.errors: dict[str, Exception] = {}
        self.locked: set[str] = set()
        """A statement that reads one of these takes as long as it may, and is given up."""
        self.takes_s = 0.0
        """How long other statements take."""
        self.serializable = False
        self.statements: list[list[str]] = []
        self.woken: list[str] = []
        self.marks = {name: PeekedMarks(name, self.clock) for name in names}
        monkeypatch.setattr(peeker_module, "newest_marks", self.newest_marks)
        self.peeker = Peeker(FakeDatabase(), clock=self.clock)

    async def newest_marks(self, database: Database, tables: Sequence[str]) -> list[int | None] | None:
        self.statements.append(list(tables))
        if self.locked & set(tables):
            await self.clock.sleep(PEEK_WITHIN_S)
            raise StatementTimedOut("StatementTimeout", "it took too long", sqlstate="57014")
        if self.takes_s:
            await self.clock.sleep(self.takes_s)
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
    assert (peeked.statements, peeked.marks["b"].is_current) == ([["a", "c"], ["b"]], True)
    await peeked.peek()
    assert peeked.statements == [["a", "b", "c"]]


async def test_a_table_that_is_refused_keeps_no_other_from_being_peeked_at(peeked: Peeked) -> None:
    peeked.errors["c"] = RowsRefused("a", "b")
    await peeked.peek()
    peeked.newest["a"] = 3
    await peeked.peek()
    assert peeked.woken == ["a"]


@asynccontextmanager
async def running(peeked: Peeked) -> AsyncIterator[None]:
    task = asyncio.create_task(peeked.peeker.run())
    await settle()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def delays_s(peeked: Peeked, name: str, *, for_s: float) -> list[float]:
    """How long it takes to see each of the marks that are made one after the other in this time."""
    found, end_s = [], peeked.clock.monotonic() + for_s
    while peeked.clock.monotonic() < end_s:
        made_at, number = peeked.clock.monotonic(), (peeked.newest[name] or 0) + 1
        peeked.newest[name] = number
        while peeked.marks[name].newest != number:
            await peeked.clock.advance(0.05)
            assert peeked.clock.monotonic() - made_at < 60, "no peek sees it"
        found.append(peeked.clock.monotonic() - made_at)
    return found


async def test_a_table_that_is_locked_for_long_keeps_no_other_from_being_peeked_at(peeked: Peeked) -> None:
    async with running(peeked):
        await peeked.clock.advance(1)
        peeked.locked = {"b"}
        delays = await delays_s(peeked, "c", for_s=5 * RETRY_S)
        assert max(delays) <= 2 * PEEK_WITHIN_S + 0.3
        assert sum(delay > 0.2 for delay in delays) <= 6, "it is tried again rarely, and delays the others only then"
        assert not peeked.marks["b"].is_current


async def test_a_table_that_stays_locked_is_tried_again_alone_so_the_others_stay_current(peeked: Peeked) -> None:
    async with running(peeked):
        peeked.locked = {"b"}
        await peeked.clock.advance(RETRY_S / 2)
        peeked.statements.clear()
        peeked.woken.clear()
        for _ in range(int(3 * RETRY_S / 0.1)):
            await peeked.clock.advance(0.1)
            assert peeked.marks["a"].is_current
            assert peeked.marks["c"].are_none
        assert (["b"] in peeked.statements, peeked.woken) == (True, [])
        peeked.locked.clear()
        await peeked.clock.advance(RETRY_S + PEEK_WITHIN_S + 1)
        assert peeked.statements[-1] == ["a", "b", "c"]


async def test_what_a_peek_saw_is_relied_on_for_two_seconds_only(peeked: Peeked) -> None:
    await peeked.peek()
    await peeked.clock.advance(CURRENT_FOR_S)
    assert all(marks.is_current and marks.are_none for marks in peeked.marks.values())
    await peeked.clock.advance(0.01)
    assert not any(marks.is_current or marks.are_none for marks in peeked.marks.values())


async def test_loops_are_woken_whose_marks_were_not_peeked_at_while_others_were_waited_for(peeked: Peeked) -> None:
    await peeked.peek()
    await peeked.clock.advance(CURRENT_FOR_S - PEEK_WITHIN_S / 2)
    peeked.locked = {"a"}
    peeked.errors["b"] = RowsRefused("a", "b")
    await let_time_pass(peeked.clock, peeked.peek())
    assert "c" in peeked.woken


async def test_a_slow_database_is_peeked_at_after_a_second_at_most(peeked: Peeked) -> None:
    peeked.takes_s = 0.8
    assert await let_time_pass(peeked.clock, peeked.peek()) == LONGEST_PAUSE_S


async def test_a_database_that_answers_no_peek_is_taken_for_unavailable_after_two_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [str(n) for n in range(50)]
    peeked = Peeked(monkeypatch, *names)
    with ExitStack() as stack:
        for name, marks in peeked.marks.items():
            stack.enter_context(peeked.peeker.peeking(marks, partial(peeked.wake, name)))
        await peeked.peek()
        peeked.locked = set(names)
        assert await let_time_pass(peeked.clock, peeked.peek()) == UNAVAILABLE_PAUSE_S
        assert peeked.statements == [names, *[[name] for name in names[:TIMED_OUT_IN_A_ROW]]]
        assert peeked.woken == names
        assert not any(marks.is_current for marks in peeked.marks.values())
        peeked.locked.clear()
        await peeked.peek()
        assert [name for name in names if peeked.marks[name].is_current] == names[TIMED_OUT_IN_A_ROW:]


async def test_only_a_mark_with_a_higher_number_than_all_before_is_new_and_any_other_wakes_the_loop(
    peeked: Peeked,
) -> None:
    marks = peeked.marks["b"]
    for number, woken, new in [
        (7, True, True),
        (5, True, False),
        (7, True, False),
        (None, False, False),
        (8, True, True),
    ]:
        marks.are_new, peeked.newest["b"] = False, number
        await peeked.peek()
        assert (peeked.woken == ["b"], marks.are_new) == (woken, new), number


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
