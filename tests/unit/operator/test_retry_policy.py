"""The pauses between a row's attempts, and their limit."""

from datetime import UTC, datetime, timedelta

import pytest

from embedding_operator.lifecycle.retry_policy import next_attempt, pause_s
from embedding_operator.resources.embedding_source import RetrySpec

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def pauses(policy: RetrySpec, *, jitter: float) -> list[float]:
    return [pause_s(policy, attempts, jitter=jitter) for attempts in range(1, policy.max_attempts)]


def test_the_five_pauses_of_the_default_double_from_two_seconds_to_thirty_two() -> None:
    assert pauses(RetrySpec(), jitter=0) == [2, 4, 8, 16, 32]


def test_the_most_jitter_adds_a_tenth_to_each() -> None:
    assert pauses(RetrySpec(), jitter=1) == pytest.approx([2.2, 4.4, 8.8, 17.6, 35.2])


def test_a_pause_grows_by_its_factor_to_its_limit_and_stays_there() -> None:
    policy = RetrySpec(max_attempts=7, initial_seconds=1, factor=3, max_seconds=30)
    assert pauses(policy, jitter=0) == [1, 3, 9, 27, 30, 30]


def test_a_factor_of_one_makes_every_pause_the_same() -> None:
    assert pauses(RetrySpec(max_attempts=4, initial_seconds=5, factor=1), jitter=0) == [5, 5, 5]


def test_a_pause_that_would_begin_above_the_limit_is_the_limit() -> None:
    assert pause_s(RetrySpec(initial_seconds=60, max_seconds=10), 1, jitter=0) == 10


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_next_attempt_comes_after_its_pause(attempts: int) -> None:
    policy = RetrySpec()
    pause = pause_s(policy, attempts, jitter=0.5)
    assert next_attempt(attempts, policy, NOW, jitter=0.5) == (NOW + timedelta(seconds=pause), pause)


@pytest.mark.parametrize("attempts", [6, 7, 100])
def test_at_the_limit_there_is_no_next_attempt(attempts: int) -> None:
    assert next_attempt(attempts, RetrySpec(), NOW, jitter=0) is None


def test_where_one_attempt_is_all_there_is_no_retry() -> None:
    assert next_attempt(1, RetrySpec(max_attempts=1), NOW, jitter=0) is None
