"""Outcomes are recorded together, after a second, and nothing waits for that; what cannot be recorded is forgotten."""

import asyncio
from collections.abc import Sequence

from structlog.testing import capture_logs

from embedding_worker.errors import DatabaseUnavailable, RowsLocked
from embedding_worker.later_log import LINGER_S, MOST_WAITING
from embedding_worker.outcome_log import OutcomeLog
from embedding_worker.rows.records import LastOutcome
from tests.support.fake_clock import START, FakeClock

FAILED = LastOutcome(START, "Retrying", "ProviderUnavailable", "the server is away", 1)


class Recorded:
    """What was recorded in each call, by row; each of `errors` is raised by one call."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.errors: list[Exception] = []
        self.clock = FakeClock()
        self.log = OutcomeLog(self.record, clock=self.clock)

    async def record(self, outcomes: Sequence[tuple[str, LastOutcome]]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.calls.append([row_id for row_id, _ in outcomes])

    def add(self, *row_ids: str) -> None:
        for row_id in row_ids:
            self.log.add(row_id, FAILED)


async def test_the_outcomes_of_a_second_are_recorded_together() -> None:
    recorded = Recorded()
    async with recorded.log.running():
        recorded.add("1", "2")
        await recorded.clock.advance(LINGER_S / 2)
        recorded.add("3")
        assert recorded.calls == []
        await recorded.clock.advance(LINGER_S / 2)
        assert recorded.calls == [["1", "2", "3"]]
        recorded.add("4")
        await recorded.clock.advance(LINGER_S)
    assert recorded.calls == [["1", "2", "3"], ["4"]]


async def test_without_outcomes_nothing_is_sent() -> None:
    recorded = Recorded()
    async with recorded.log.running():
        await recorded.clock.advance(60)
    assert recorded.calls == []


async def test_what_is_left_at_the_end_is_recorded() -> None:
    recorded = Recorded()
    async with recorded.log.running():
        recorded.add("1")
    assert recorded.calls == [["1"]]


async def test_outcomes_that_cannot_be_recorded_are_logged_and_forgotten() -> None:
    recorded = Recorded()
    recorded.errors = [DatabaseUnavailable("the database is away"), RuntimeError("a defect")]
    with capture_logs() as lines:
        async with recorded.log.running():
            for row_id in "123":
                recorded.add(row_id)
                await recorded.clock.advance(LINGER_S)
    assert recorded.calls == [["3"]]
    assert [(line["log_level"], line.get("items")) for line in lines] == [("info", 1), ("error", None)]


async def test_outcomes_whose_line_another_session_has_locked_are_recorded_later() -> None:
    recorded = Recorded()
    recorded.errors = [RowsLocked("the line is locked")]
    async with recorded.log.running():
        recorded.add("1")
        await recorded.clock.advance(LINGER_S)
        recorded.add("2")
        await recorded.clock.advance(LINGER_S)
    assert recorded.calls == [["1", "2"]]


async def test_of_too_many_outcomes_the_newest_are_recorded() -> None:
    recorded = Recorded()
    recorded.add(*map(str, range(MOST_WAITING + 2)))
    async with recorded.log.running():
        await recorded.clock.advance(LINGER_S)
    assert (len(recorded.calls[0]), recorded.calls[0][0]) == (MOST_WAITING, "2")


async def test_outcomes_that_are_being_recorded_when_it_ends_are_not_lost() -> None:
    recorded = Recorded()
    first = asyncio.Event()

    async def slow(outcomes: Sequence[tuple[str, LastOutcome]]) -> None:
        if not first.is_set():
            first.set()
            await asyncio.Event().wait()
        await recorded.record(outcomes)

    log = OutcomeLog(slow, clock=recorded.clock)
    async with log.running():
        log.add("1", FAILED)
        log.add("2", FAILED)
        await recorded.clock.advance(LINGER_S)
        assert first.is_set()
    assert recorded.calls == [["1", "2"]]
