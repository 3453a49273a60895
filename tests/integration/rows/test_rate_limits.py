"""The rate limits of a provider, which all processes keep together, and what is given back to the day's count."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import psycopg
import pytest

from embedding_worker.limits import Limits
from embedding_worker.providers.rate_limits import BURST_S, SHARE
from embedding_worker.rows import rate_limits
from embedding_worker.rows.database import Database
from embedding_worker.rows.records import RateGrant, RateLimits
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, run
from tests.support.rate_limited_sender import Call, Sender, sent_by

KEY = "0123456789abcdef"
About = Callable[[float], object]
LATE_S = 0.6
"""The calls of a process may be made so much later than planned, and the limit still holds."""
MEASUREMENTS = 3
"""So often, at most, it is measured how much of a limit is used. A stall makes one result too low, a defect each of them."""
PASS = "UPDATE embedding_operator.rate_limits SET as_of = as_of - make_interval(secs => %s)"
ROW = "SELECT requests, texts, tokens FROM embedding_operator.rate_limits"
TEN = range(10, 101, 10)
"""Ten texts of ten tokens each."""


@pytest.fixture
async def keeper(businesses: Application, keep: Keep) -> Keeper:
    return (await keep(text="name"))[0]


async def acquired(
    keeper: Keeper, limits: RateLimits, *, texts: int = 1, tokens: int = 20, longest_wait_s: float = 600.0
) -> RateGrant:
    return await keeper.store.acquire_rate(KEY, limits, texts=texts, tokens=tokens, longest_wait_s=longest_wait_s)


@dataclass(frozen=True)
class Between:
    """Equal to each number between these, so that it can stand in an answer that is expected."""

    least: float
    most: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and self.least <= other <= self.most


@pytest.fixture
def about(keeper: Keeper) -> About:
    """Such a wait, less the time that has passed since the test began: its statements take some, on a busy machine more."""
    began_s = time.monotonic()
    return lambda seconds: Between(0.98 * seconds - 1.0 - (time.monotonic() - began_s), 1.02 * seconds + 1.0)


def most_within(calls: Sequence[Call], window_s: float, amount: Callable[[Call], int]) -> int:
    """The largest amount of calls that were made within so many seconds."""
    ordered = sorted(calls, key=lambda call: call.at_s)
    sums = [0, *accumulate(map(amount, ordered))]
    most, first = 0, 0
    for last, call in enumerate(ordered):
        while call.at_s - ordered[first].at_s >= window_s:
            first += 1
        most = max(most, sums[last + 1] - sums[first])
    return most


def share_used(calls: Sequence[Call], limit: int, amount: Callable[[Call], int]) -> float:
    """The share of a limit that calls in the order of their times use, after a second; 0 if they end too soon to tell."""
    steady = [call for call in calls if call.at_s >= calls[0].at_s + 1.0]
    lasted_s = steady[-1].at_s - steady[0].at_s if steady else 0.0
    return sum(map(amount, steady)) / (limit / 60 * lasted_s) if lasted_s >= 3.0 else 0.0


async def test_two_processes_stay_under_a_limit_together_and_use_at_least_95_percent_of_it(
    keeper: Keeper, businesses: Application
) -> None:
    limit, seconds = 3_000, 6.0
    sender = Sender(businesses.url, limit, None, None, [(1, 20)], seconds)
    assert SHARE * (60 + BURST_S + LATE_S) / 60 < 1
    for _ in range(MEASUREMENTS):
        ours, theirs = await asyncio.gather(sent_by(sender), sent_by(sender))
        calls = sorted([*ours, *theirs], key=lambda call: call.at_s)
        for window_s in (0.5, 1.0, 2.0, 4.0):
            assert most_within(calls, window_s, lambda call: 1) <= SHARE * limit / 60 * (window_s + BURST_S + LATE_S)
        used, fewer = share_used(calls, limit, lambda call: 1), min(len(ours), len(theirs))
        if used >= 0.95 and fewer > 0.2 * len(calls):
            break
    assert used >= 0.95
    assert fewer > 0.2 * len(calls)


async def test_two_processes_keep_limits_of_texts_and_of_tokens_and_use_the_one_that_is_lower(
    keeper: Keeper, businesses: Application
) -> None:
    """Half of the calls are batches, which the tokens limit; the others are single texts."""
    texts, tokens, seconds = 300_000, 3_000_000, 6.0
    sender = Sender(businesses.url, 60_000, texts, tokens, [(100, 2_000), (1, 20)], seconds)
    for _ in range(MEASUREMENTS):
        found = await asyncio.gather(sent_by(sender), sent_by(sender))
        calls = sorted((call for sent in found for call in sent), key=lambda call: call.at_s)
        for window_s in (1.0, 2.0, 4.0):
            for limit, amount in ((texts, lambda call: call.texts), (tokens, lambda call: call.tokens)):
                assert most_within(calls, window_s, amount) <= SHARE * limit / 60 * (window_s + BURST_S + LATE_S)
        used = share_used(calls, tokens, lambda call: call.tokens)
        if used >= 0.95:
            break
    assert used >= 0.95


@pytest.mark.parametrize("seed", range(2))
async def test_no_minute_has_more_than_a_limit_whatever_the_calls_are(
    keeper: Keeper, businesses: Application, seed: int
) -> None:
    """Calls of many sizes, each less than 1% of a limit, in pauses of many lengths. To pass the time, `as_of` is set back."""
    chosen = random.Random(seed)  # noqa: S311
    limits = RateLimits(requests=600, texts=3_600, tokens=43_200)
    passed_s, calls = 0.0, list[Call]()
    with psycopg.connect(businesses.url, autocommit=True) as connection:
        while not calls or calls[-1].at_s < calls[0].at_s + 75:
            texts = chosen.choice((1, 1, 2, 20))
            tokens = texts * chosen.randint(8, 16)
            asked_s = time.monotonic() + passed_s
            grant = await acquired(keeper, limits, texts=texts, tokens=tokens, longest_wait_s=3.0)
            if grant.granted:
                calls.append(Call(asked_s + grant.wait_s, texts, tokens))
            pause_s = chosen.choice((0.0, 0.0, 0.0, 0.02, 0.05, chosen.expovariate(4)))
            run(connection, PASS, pause_s)
            passed_s += pause_s
    most = (
        most_within(calls, 60, lambda call: 1) / 600,
        most_within(calls, 60, lambda call: call.texts) / 3_600,
        most_within(calls, 60, lambda call: call.tokens) / 43_200,
    )
    assert 0.7 < max(most) < 0.998, most


async def test_a_single_edit_after_a_pause_waits_for_nothing(keeper: Keeper) -> None:
    limits = RateLimits(requests=60, texts=60, tokens=6_000)
    assert await acquired(keeper, limits) == RateGrant(granted=True, wait_s=0.0)


async def test_the_next_call_waits_until_the_limit_has_room_for_it(
    keeper: Keeper, businesses: Application, about: About
) -> None:
    limits = RateLimits(requests=10)
    waits = [(await acquired(keeper, limits)).wait_s for _ in range(4)]
    assert waits == [about(n * 6 / SHARE) for n in range(4)]
    businesses.run(PASS, 20.0)
    assert (await acquired(keeper, limits)).wait_s == about(4 * 6 / SHARE - 20)


async def test_what_the_limit_allows_in_a_moment_is_sent_at_once(keeper: Keeper) -> None:
    limits = RateLimits(requests=6_000)
    assert {(await acquired(keeper, limits)).wait_s for _ in range(50)} == {0.0}


async def test_a_call_that_would_wait_for_too_long_reserves_nothing(
    keeper: Keeper, businesses: Application, about: About
) -> None:
    limits = RateLimits(requests=1, texts=100, tokens=5_000)
    await acquired(keeper, limits)
    (before,) = businesses.run(ROW)
    refused = [await acquired(keeper, limits, longest_wait_s=5.0) for _ in range(3)]
    assert refused == [RateGrant(granted=False, wait_s=about(60 / SHARE))] * 3  # type: ignore[arg-type]
    (after,) = businesses.run(ROW)
    assert all(now <= then for now, then in zip(after, before, strict=True))
    assert (await acquired(keeper, limits)).wait_s == about(60 / SHARE)


async def test_a_call_that_waits_for_one_limit_saves_up_no_room_in_the_others(keeper: Keeper, about: About) -> None:
    """A batch uses 30 s of the tokens. The calls behind it are not sent all at once."""
    limits = RateLimits(requests=60, tokens=10_000)
    await acquired(keeper, limits, tokens=5_000)
    waits = [(await acquired(keeper, limits, tokens=1)).wait_s for _ in range(10)]
    assert waits == [about(30 / SHARE - BURST_S + n / SHARE) for n in range(10)]


async def test_a_batch_that_is_larger_than_the_limit_is_sent_and_the_pause_is_long(
    keeper: Keeper, about: About
) -> None:
    limits = RateLimits(texts=10)
    assert await acquired(keeper, limits, texts=100) == RateGrant(granted=True, wait_s=0.0)
    assert (await acquired(keeper, limits)).wait_s == about(600 / SHARE)


async def test_calls_that_do_not_fill_a_minute_exactly_stay_under_the_limit(keeper: Keeper, about: About) -> None:
    """Each has 40% of the limit, so there are two in a minute."""
    limits = RateLimits(tokens=10_000)
    waits = [(await acquired(keeper, limits, tokens=4_000)).wait_s for _ in range(3)]
    assert waits == [about(n * 30 / SHARE) for n in range(3)]


@pytest.mark.parametrize(("now", "expected_s"), [(600_000, 12), (60_000, 120), (6_000, 1_200)])
async def test_a_limit_that_was_changed_applies_to_what_was_sent_before(
    keeper: Keeper, now: int, expected_s: float, about: About
) -> None:
    await acquired(keeper, RateLimits(texts=60_000), texts=120_000)
    grant = await acquired(keeper, RateLimits(texts=now), longest_wait_s=3_600.0)
    assert grant.wait_s == about(expected_s / SHARE)


async def test_after_the_clock_was_set_back_nobody_waits_for_the_time_that_it_was_ahead(
    keeper: Keeper, businesses: Application, about: About
) -> None:
    limits = RateLimits(requests=10)
    await acquired(keeper, limits)
    businesses.run(PASS, -3_600.0)
    assert (await acquired(keeper, limits)).wait_s == about(6 / SHARE)
    businesses.run(PASS, 60.0)
    assert (await acquired(keeper, limits)).wait_s == 0.0


async def test_without_limits_nothing_is_asked_of_the_database(keeper: Keeper, businesses: Application) -> None:
    assert await acquired(keeper, RateLimits(), texts=100_000) == RateGrant(granted=True, wait_s=0.0)
    assert businesses.run(ROW) == []


async def test_each_credential_has_limits_of_its_own(rows: Database, keeper: Keeper) -> None:
    limits = RateLimits(requests=1)
    for key in ("one", "two"):
        grant = await rate_limits.acquire(rows, key, limits, texts=1, tokens=1, longest_wait_s=0.0)
        assert grant == RateGrant(granted=True, wait_s=0.0)


async def test_calls_that_are_reserved_at_once_get_times_of_their_own(keeper: Keeper, about: About) -> None:
    limits = RateLimits(requests=60)
    grants = await asyncio.gather(*(acquired(keeper, limits) for _ in range(20)))
    assert sorted(grant.wait_s for grant in grants) == [about(n / SHARE) for n in range(20)]


async def test_what_was_counted_and_not_sent_is_given_back(keeper: Keeper) -> None:
    await keeper.store.acquire_texts(TEN, Limits(10))
    await keeper.store.return_texts(4, tokens=40, counted_s_ago=0.0)
    used = await keeper.store.used_today()
    assert used is not None
    assert (used.texts, used.tokens) == (6, 60)
    assert (await keeper.store.acquire_texts(TEN, Limits(10))).texts == 4


async def test_no_more_is_given_back_than_was_counted(keeper: Keeper) -> None:
    await keeper.store.acquire_texts(TEN, Limits(10))
    await keeper.store.return_texts(11, tokens=101, counted_s_ago=0.0)
    used = await keeper.store.used_today()
    assert used is not None
    assert (used.texts, used.tokens) == (0, 0)


async def test_what_was_counted_on_another_day_is_not_given_back(keeper: Keeper, businesses: Application) -> None:
    await keeper.store.acquire_texts(TEN, Limits(10))
    await keeper.store.return_texts(4, tokens=40, counted_s_ago=24 * 3_600.0)
    assert (await keeper.store.acquire_texts([10], Limits(10))).texts == 0
    businesses.run("UPDATE embedding_operator.usage SET day = day - 1")
    await keeper.store.return_texts(4, tokens=40, counted_s_ago=0.0)
    assert businesses.run("SELECT texts FROM embedding_operator.usage") == [(10,)]
