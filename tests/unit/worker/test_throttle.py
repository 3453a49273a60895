"""How long a provider is not called after it answered 429."""

import pytest

from embedding_worker.errors import ProviderThrottled, Quota
from embedding_worker.providers.problem import Problem
from embedding_worker.providers.throttle import LONGEST_PAUSE_S, SHOWN_AFTERWARDS_S, Throttle, pause_s
from tests.support.fake_clock import FakeClock

SILENT = ProviderThrottled("429")


def asking(seconds: float) -> ProviderThrottled:
    return ProviderThrottled("429", retry_after_s=seconds)


@pytest.mark.parametrize(
    ("error", "times", "expected_s"),
    [
        (asking(7.5), 1, 7.5),
        (asking(0), 1, 0),
        (asking(-3), 1, 0),
        (asking(86_400), 1, LONGEST_PAUSE_S),
        (asking(0), 3, 4),
        (asking(3), 3, 4),
        (asking(30), 3, 30),
        (SILENT, 1, 1),
        (SILENT, 2, 2),
        (SILENT, 5, 16),
        (SILENT, 10, 512),
        (SILENT, 11, LONGEST_PAUSE_S),
        (SILENT, 1_000_000, LONGEST_PAUSE_S),
        (ProviderThrottled("429", quota=Quota.DAY), 1, LONGEST_PAUSE_S),
        (ProviderThrottled("429", quota=Quota.SPEND, retry_after_s=1), 1, LONGEST_PAUSE_S),
    ],
)
def test_the_pause_is_as_asked_and_doubles_with_each_further_429_up_to_fifteen_minutes(
    error: ProviderThrottled, times: int, expected_s: float
) -> None:
    assert pause_s(error, times=times) == expected_s


class Provider:
    """Answers calls by 429, and moves the clock on."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.throttle = Throttle(self.clock)

    async def answers(self, error: ProviderThrottled, *, after_s: float = 0.0) -> float:
        """The call took so long. Returns how long no call is made."""
        began = self.clock.monotonic()
        await self.clock.advance(after_s)
        self.throttle.pause(error, began=began)
        return self.throttle.remaining_s()


async def test_without_a_429_nothing_is_paused() -> None:
    throttle = Provider().throttle
    assert (throttle.remaining_s(), throttle.problem, throttle.times) == (0, None, 0)


async def test_a_pause_is_over_when_its_time_has_passed_and_the_problem_when_a_call_succeeds() -> None:
    provider = Provider()
    assert await provider.answers(asking(5)) == 5
    await provider.clock.advance(4)
    assert provider.throttle.remaining_s() == 1
    assert provider.throttle.problem == Problem("ProviderThrottled", "429; no call is made before 2026-03-01T12:00:05Z")
    await provider.clock.advance(1)
    assert provider.throttle.remaining_s() == 0
    assert provider.throttle.problem is not None
    provider.throttle.record_success()
    assert provider.throttle.problem is None


async def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    provider = Provider()
    await provider.answers(ProviderThrottled("the first", retry_after_s=60))
    assert await provider.answers(ProviderThrottled("the second", retry_after_s=5)) == 60
    assert provider.throttle.problem is not None
    assert provider.throttle.problem.message.startswith("the first;")


async def test_a_quota_of_the_day_is_a_reason_of_its_own() -> None:
    provider = Provider()
    await provider.answers(ProviderThrottled("429", quota=Quota.DAY))
    assert provider.throttle.problem is not None
    assert provider.throttle.problem.reason == "QuotaExhausted"


async def test_pauses_double_until_a_call_succeeds() -> None:
    provider, pauses = Provider(), []
    for _ in range(4):
        pauses.append(await provider.answers(SILENT))
        await provider.clock.advance(pauses[-1])
    provider.throttle.record_success()
    pauses.append(await provider.answers(SILENT))
    assert pauses == [1, 2, 4, 8, 1]


async def test_calls_that_were_in_flight_together_double_the_pause_only_once() -> None:
    provider = Provider()
    began = provider.clock.monotonic()
    for _ in range(5):
        provider.throttle.pause(SILENT, began=began)
    assert (provider.throttle.times, provider.throttle.remaining_s()) == (1, 1)


async def test_a_call_that_began_long_before_and_succeeds_ends_no_pause_that_is_in_force() -> None:
    provider = Provider()
    await provider.answers(asking(60))
    provider.throttle.record_success()
    assert (provider.throttle.remaining_s(), provider.throttle.times) == (60, 0)
    assert provider.throttle.problem is not None


async def test_a_pause_is_shown_for_a_minute_after_its_end_if_no_call_is_made() -> None:
    provider = Provider()
    await provider.answers(asking(5))
    await provider.clock.advance(5 + SHOWN_AFTERWARDS_S)
    assert provider.throttle.problem is not None
    await provider.clock.advance(0.1)
    assert provider.throttle.problem is None
