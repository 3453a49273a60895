"""Which failures count as an attempt of a row, and which are shared by the whole provider."""

import pytest

from embedding_worker.batching.bisect import AttemptRecord
from embedding_worker.errors import (
    DayLimitReached,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.providers.attribution import CALLS_WITHOUT_SUCCESS, is_shared_failure

AWAY = ProviderUnavailable("the server is away")
REJECTED = InputRejected("Blocked", "the provider rejects the text")


def calls(*records: tuple[int, ProviderError | None]) -> list[AttemptRecord]:
    return [AttemptRecord(items, error) for items, error in records]


@pytest.mark.parametrize(
    "error", [ProviderThrottled("429"), ProviderMisconfigured("wrong key"), DayLimitReached("enough for today")]
)
def test_an_error_of_the_whole_provider_is_shared_at_once(error: ProviderError) -> None:
    assert is_shared_failure(calls((64, None), (1, error)))


def test_a_row_that_fails_alone_and_has_no_neighbours_counts_as_an_attempt() -> None:
    assert not is_shared_failure(calls((1, AWAY)))


def test_two_rows_that_fail_alone_before_any_success_share_the_failure() -> None:
    assert is_shared_failure(calls((2, AWAY), (1, AWAY), (1, AWAY)))


def test_two_rows_that_fail_alone_after_a_success_count_as_attempts() -> None:
    assert not is_shared_failure(calls((4, AWAY), (2, None), (2, AWAY), (1, AWAY), (1, AWAY)))


def test_two_rejected_texts_are_no_failure_of_the_provider() -> None:
    assert not is_shared_failure(calls(*[(1, REJECTED)] * 20))


def test_seven_failures_in_a_row_are_shared() -> None:
    failing = [(64, AWAY)] * CALLS_WITHOUT_SUCCESS
    assert is_shared_failure(calls((64, None), *failing))
    assert not is_shared_failure(calls((64, None), *failing[1:]))


def test_a_success_begins_the_count_of_failures_again() -> None:
    assert not is_shared_failure(calls(*[(64, AWAY)] * 6, (32, None), *[(16, AWAY)] * 6))


def test_a_rejected_text_neither_adds_to_the_failures_nor_begins_their_count_again() -> None:
    assert not is_shared_failure(calls(*[(64, AWAY)] * 5, (32, REJECTED), (32, AWAY)))
    assert is_shared_failure(calls(*[(64, AWAY)] * 6, (32, REJECTED), (32, AWAY)))
