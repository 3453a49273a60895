"""How long a provider is not called after it asked for a pause."""

import pytest

from embedding_worker.errors import ProviderThrottled, Quota
from embedding_worker.providers.throttle import LONGEST_PAUSE_S, PAUSE_S, Throttle, pause_s
from tests.support.fake_clock import FakeClock


@pytest.mark.parametrize(
    ("error", "expected_s"),
    [
        (ProviderThrottled("429", retry_after_s=7.5), 7.5),
        (ProviderThrottled("429", retry_after_s=0), 0),
        (ProviderThrottled("429", retry_after_s=-3), 0),
        (ProviderThrottled("429", retry_after_s=86_400), LONGEST_PAUSE_S),
        (ProviderThrottled("429"), PAUSE_S),
        (ProviderThrottled("429", quota=Quota.DAY), LONGEST_PAUSE_S),
    ],
)
def test_the_pause_is_as_asked_up_to_fifteen_minutes_and_else_by_the_kind_of_quota(
    error: ProviderThrottled, expected_s: float
) -> None:
    assert pause_s(error) == expected_s


async def test_a_pause_is_over_when_its_time_has_passed() -> None:
    clock = FakeClock()
    throttle = Throttle(clock)
    assert (throttle.remaining_s(), throttle.reason) == (0, None)
    error = ProviderThrottled("429", retry_after_s=5)
    throttle.pause(error)
    await clock.advance(4)
    assert (throttle.remaining_s(), throttle.reason) == (1, error)
    await clock.advance(1)
    assert (throttle.remaining_s(), throttle.reason) == (0, None)


async def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    throttle = Throttle(FakeClock())
    longer = ProviderThrottled("429", retry_after_s=60)
    throttle.pause(longer)
    throttle.pause(ProviderThrottled("429", retry_after_s=5))
    assert (throttle.remaining_s(), throttle.reason) == (60, longer)
