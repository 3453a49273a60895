"""What is counted before a call, and what is given back if the call was not made."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from embedding_worker.errors import (
    CallsPaused,
    DatabaseUnavailable,
    LimitReached,
    RowsRefused,
    SourceRefused,
    StatementTimedOut,
    TableRefused,
)
from embedding_worker.limits import Granted, Reached
from embedding_worker.patience import SHOWN_AFTER_TRIES
from embedding_worker.providers.embedder import tokens_of
from embedding_worker.providers.meter import AHEAD_S, FIRST_CALL_WAITS_S, Counted, Counters, Meter
from embedding_worker.rows.records import RateGrant, UsageNote
from tests.support.fake_clock import FakeClock, let_time_pass, settle

TEXTS = ["a" * 30, "鮨" * 10, "b" * 9]
"""Of 10, 10 and 3 tokens."""
REACHED = Reached("TokenLimitReached", "used")


@dataclass
class Database:
    """Records what is asked of it, in order, and answers as it is told."""

    allowed: int = 1_000
    grant: RateGrant = field(default_factory=lambda: RateGrant(granted=True, wait_s=0.0))
    asked: list[tuple[str, float, float]] = field(default_factory=list)
    """The name of the request, the number of texts and that of tokens (of what is given back: of its age in seconds)."""
    away: dict[str, int] = field(default_factory=dict)
    """How often each request fails first."""
    longest_wait_s: float | None = None
    refusals: list[Exception] = field(default_factory=list)

    async def acquire_texts(self, tokens: Sequence[int]) -> Granted:
        self._ask("day", len(tokens), tokens[-1])
        return self.granted(len(tokens))

    def granted(self, texts: int) -> Granted:
        return Granted(texts) if texts <= self.allowed else Granted(self.allowed, REACHED)

    async def record_usage(self, notes: Sequence[UsageNote]) -> None:
        self._ask("usage", len(notes), sum(note.more_tokens for note in notes))

    async def return_texts(self, texts: int, tokens: int, counted_s_ago: float) -> None:
        self._ask("returned", texts, tokens)
        self._ask("age", texts, counted_s_ago)

    async def acquire_rate(self, texts: int, tokens: int, longest_wait_s: float) -> RateGrant:
        self._ask("rate", texts, tokens)
        self.longest_wait_s = longest_wait_s
        return self.grant

    def _ask(self, what: str, texts: float, tokens: float) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        if self.away.get(what, 0):
            self.away[what] -= 1
            raise DatabaseUnavailable("away")
        self.asked.append((what, texts, tokens))


class Metered:
    def __init__(self, **answers: object) -> None:
        self.clock, self.database = FakeClock(), Database(**answers)  # type: ignore[arg-type]
        database = self.database
        counters = Counters(database.acquire_texts, database.return_texts, database.acquire_rate, database.record_usage)
        self.meter = Meter(counters, clock=self.clock)

    async def acquire(self, texts: Sequence[str] = TEXTS) -> Counted:
        return await let_time_pass(self.clock, self.meter.acquire(texts, longest_wait_s=FIRST_CALL_WAITS_S))


async def test_texts_are_counted_for_the_rate_limits_and_then_for_the_day() -> None:
    metered = Metered()
    assert (await metered.acquire()).texts == TEXTS
    assert metered.database.asked == [("rate", 3, 23), ("day", 3, 23)]
    assert metered.database.longest_wait_s == FIRST_CALL_WAITS_S


@pytest.mark.parametrize("request_name", ["rate", "day"])
async def test_a_count_that_the_database_does_not_answer_for_long_is_told(request_name: str) -> None:
    metered = Metered(away={request_name: SHOWN_AFTER_TRIES})
    asking = asyncio.create_task(metered.meter.acquire(TEXTS, longest_wait_s=FIRST_CALL_WAITS_S))
    await settle()
    while metered.database.away[request_name]:
        assert metered.meter.unanswered.error is None
        await metered.clock.advance(0.1)
    assert str(metered.meter.unanswered.error) == "away"
    await metered.clock.advance(5)
    assert ((await asking).texts, metered.meter.unanswered.error) == (TEXTS, None)


async def test_only_what_the_day_allows_may_be_sent() -> None:
    metered = Metered(allowed=2)
    assert (await metered.acquire()).texts == TEXTS[:2]


@dataclass
class HeldDatabase(Database):
    """Answers the counts of a day when it is told to."""

    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def acquire_texts(self, tokens: Sequence[int]) -> Granted:
        self._ask("day", len(tokens), tokens[-1])
        await self.may_answer.wait()
        return self.granted(len(tokens))


def held(**answers: object) -> tuple[Metered, HeldDatabase]:
    metered = Metered()
    database = HeldDatabase(**answers)  # type: ignore[arg-type]
    counters = Counters(database.acquire_texts, database.return_texts, database.acquire_rate, database.record_usage)
    metered.meter = Meter(counters, clock=metered.clock)
    return metered, database


async def asking_one_after_another(metered: Metered, batches: int) -> list["asyncio.Task[Counted]"]:
    """So many batches, the first of which is being counted when the others ask."""
    asking = []
    for _ in range(batches):
        asking.append(asyncio.create_task(metered.meter.acquire(TEXTS, longest_wait_s=FIRST_CALL_WAITS_S)))
        await settle()
    return asking


async def test_batches_that_ask_while_another_is_counted_are_counted_together_in_their_order() -> None:
    metered, database = held(allowed=5)
    asking = await asking_one_after_another(metered, 3)
    database.may_answer.set()
    first, second, third = await asyncio.gather(*asking, return_exceptions=True)
    assert [texts for what, texts, _ in database.asked if what == "day"] == [3, 6]
    assert isinstance(first, Counted)
    assert isinstance(second, Counted)
    assert isinstance(third, Counted)
    assert [len(counted.texts) for counted in (first, second, third)] == [3, 3, 2]


async def test_a_batch_that_is_cancelled_while_it_is_counted_stops_no_other() -> None:
    metered, database = held()
    asking = await asking_one_after_another(metered, 3)
    asking[0].cancel()
    await settle()
    database.may_answer.set()
    assert len((await asking[2]).texts) == 3
    assert [texts for what, texts, _ in database.asked if what == "day"] == [3, 6]


async def test_batches_whose_count_was_begun_by_one_that_is_cancelled_are_counted_once() -> None:
    metered, database = held()
    asking = await asking_one_after_another(metered, 2)
    for task in asking:  # the first one is asked for, the second one waits
        task.cancel()
    (later,) = await asking_one_after_another(metered, 1)
    database.may_answer.set()
    assert len((await later).texts) == 3
    assert [texts for what, texts, _ in database.asked if what == "day"] == [3, 3]


async def test_where_the_day_allows_nothing_nothing_may_be_sent() -> None:
    metered = Metered(allowed=0)
    with pytest.raises(LimitReached) as raised:
        await metered.acquire()
    assert (raised.value.reason, raised.value.message, raised.value.of_the_month) == (
        "TokenLimitReached",
        "used",
        False,
    )


async def test_batches_that_are_counted_together_count_their_tokens_one_after_another() -> None:
    metered, database = held()
    asking = await asking_one_after_another(metered, 3)
    database.may_answer.set()
    await asyncio.gather(*asking)
    assert [tokens for what, _, tokens in database.asked if what == "day"] == [23, 46]


async def test_what_a_call_has_used_is_recorded_later_and_together() -> None:
    metered = Metered()
    async with metered.meter.usage.running():
        metered.meter.usage.add_reported(1.0, estimated=23, reported=12)
        metered.meter.usage.add_reported(1.0, estimated=10, reported=11)
        assert metered.database.asked == []
        await metered.clock.advance(1)
        assert metered.database.asked == [("usage", 2, -10)]


async def test_a_call_waits_until_the_rate_limits_allow_it() -> None:
    metered = Metered(grant=RateGrant(granted=True, wait_s=1.5))
    await metered.acquire()
    assert metered.clock.slept == [1.5]


async def test_a_call_that_would_wait_for_long_is_not_made_and_its_texts_are_not_counted() -> None:
    metered = Metered(grant=RateGrant(granted=False, wait_s=40.0), allowed=2)
    with pytest.raises(CallsPaused) as raised:
        await metered.acquire()
    assert (raised.value.pause_s, raised.value.reached) == (40.0 - AHEAD_S, False)
    assert metered.database.asked == [("rate", 3, 23)]
    assert metered.clock.slept == []


async def test_texts_are_given_back_with_the_time_since_they_were_counted() -> None:
    metered = Metered()
    counted = await metered.acquire()
    await metered.clock.advance(14)
    await metered.meter.give_back(counted)
    assert metered.database.asked[-2:] == [("returned", 3, 23), ("age", 3, 14.0)]


async def test_texts_that_wait_for_the_database_to_be_given_back_are_given_back_once() -> None:
    metered = Metered(away={"returned": 2})
    counted = await metered.acquire()
    await let_time_pass(metered.clock, metered.meter.give_back(counted))
    assert [what for what, *_ in metered.database.asked].count("returned") == 1


@pytest.mark.parametrize("request_", ["day", "rate"])
async def test_while_the_database_is_away_the_call_waits(request_: str) -> None:
    metered = Metered(away={request_: 3})
    await metered.acquire()
    assert metered.clock.slept == [0.1, 0.2, 0.4]
    assert [what for what, *_ in metered.database.asked] == ["rate", "day"]


@pytest.mark.parametrize(("texts", "expected"), [([], 0), (["ab"], 0), (["abc"], 1), (["ab", "ab"], 1), (["鮨"], 1)])
def test_three_bytes_are_about_a_token(texts: list[str], expected: int) -> None:
    assert tokens_of(texts) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RowsRefused("DatabaseRefused", "permission denied for table usage"), TableRefused),
        (SourceRefused("SchemaMissing", "no schema"), SourceRefused),
    ],
)
async def test_a_statement_of_the_counts_that_is_refused_is_of_the_table_and_of_no_row(
    error: Exception, expected: type[Exception]
) -> None:
    metered = Metered()
    metered.database.refusals = [error]
    with pytest.raises(expected):
        await metered.acquire()


async def test_a_statement_of_the_counts_that_takes_too_long_is_tried_again() -> None:
    metered = Metered()
    metered.database.refusals = [StatementTimedOut("StatementTimedOut", "30 s")]
    assert (await metered.acquire()).texts == TEXTS
    assert metered.clock.slept == [0.1]
