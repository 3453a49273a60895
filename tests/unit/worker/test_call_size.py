"""How many texts a call contains: fewer after calls were too large, and slowly more again."""

import pytest

from embedding_worker.providers.call_size import (
    GROW_AFTER_CALLS,
    LONGEST_GROW_AFTER_CALLS,
    QUICK_S,
    CallSize,
    calls_for,
)


def accepted(size: CallSize, calls: int) -> int:
    """So many full calls succeed. Returns how many texts the next one may contain."""
    for _ in range(calls):
        size.record_accepted(size.texts)
    return size.texts


def test_at_first_a_call_has_as_many_texts_as_the_provider_documents() -> None:
    assert CallSize(100).texts == 100


@pytest.mark.parametrize(("learned", "expected"), [(50, 50), (1, 1), (0, 1)])
def test_after_a_call_that_was_too_large_calls_have_as_many_texts_as_were_accepted(learned: int, expected: int) -> None:
    size = CallSize(100)
    assert size.was_too_large(100, accepted=learned)
    assert size.texts == expected


def test_a_smaller_call_that_is_too_large_makes_no_call_larger() -> None:
    size = CallSize(100)
    assert size.was_too_large(100, accepted=10)
    assert size.was_too_large(100, accepted=40)
    assert size.texts == 10


def test_a_call_that_fails_once_and_is_no_larger_than_one_that_succeeded_was_not_too_large() -> None:
    size = CallSize(100)
    size.record_accepted(100)
    assert not size.was_too_large(100, accepted=50)
    assert size.texts == 100
    size.record_accepted(100)
    assert not size.was_too_large(80, accepted=40)
    assert size.texts == 100


def test_a_call_that_fails_again_before_one_of_its_size_succeeds_was_too_large() -> None:
    size = CallSize(100)
    size.record_accepted(100)
    assert not size.was_too_large(100, accepted=50)
    size.record_accepted(50)
    assert size.was_too_large(100, accepted=50)
    assert size.texts == 50


def test_after_enough_full_calls_twice_as_many_texts_are_tried_up_to_the_documented_number() -> None:
    size = CallSize(100)
    size.was_too_large(100, accepted=30)
    assert accepted(size, GROW_AFTER_CALLS - 1) == 30
    assert accepted(size, 1) == 60
    assert accepted(size, GROW_AFTER_CALLS) == 100
    assert accepted(size, 1_000) == 100


def test_calls_that_are_not_full_show_nothing() -> None:
    size = CallSize(100)
    size.was_too_large(100, accepted=30)
    for _ in range(1_000):
        size.record_accepted(29)
    assert size.texts == 30


def test_each_growth_that_fails_makes_the_next_one_come_later_up_to_a_limit() -> None:
    size, calls = CallSize(64), []
    for _ in range(9):
        size.was_too_large(16, accepted=8)
        count = 0
        while size.texts == 8:
            accepted(size, 1)
            count += 1
        calls.append(count)
    assert calls == [10, 20, 40, 80, 160, 320, 640, 640, 640]
    assert calls[-1] == LONGEST_GROW_AFTER_CALLS


def test_a_growth_that_succeeds_lets_the_next_one_come_soon_again() -> None:
    size = CallSize(64)
    size.was_too_large(64, accepted=8)
    assert accepted(size, GROW_AFTER_CALLS) == 16
    size.was_too_large(16, accepted=8)
    assert accepted(size, 2 * GROW_AFTER_CALLS) == 16
    assert accepted(size, GROW_AFTER_CALLS) == 32


def test_a_call_that_is_too_large_for_another_reason_than_the_last_growth_delays_no_growth() -> None:
    size = CallSize(64)
    for _ in range(3):
        size.was_too_large(64, accepted=8)
    assert accepted(size, GROW_AFTER_CALLS) == 16


@pytest.mark.parametrize(("before", "after"), [(100, 50), (3, 1), (1, 1)])
def test_calls_that_are_shrunk_grow_again_soon(before: int, after: int) -> None:
    size = CallSize(before)
    size.shrink()
    assert size.texts == after
    assert accepted(size, GROW_AFTER_CALLS) == min(before, after * 2)


@pytest.mark.parametrize(("texts", "after"), [(100, 50), (3, 1), (2, 1)])
def test_a_call_that_reaches_its_deadline_makes_the_next_ones_smaller_at_once(texts: int, after: int) -> None:
    size = CallSize(100)
    size.record_timeout(texts)
    assert size.texts == after


def test_calls_that_reach_their_deadline_side_by_side_make_the_next_ones_smaller_once() -> None:
    size = CallSize(100)
    for _ in range(5):
        size.record_timeout(100)
    assert size.texts == 50


def test_a_single_text_that_reaches_the_deadline_makes_no_call_smaller() -> None:
    size = CallSize(100)
    size.record_timeout(1)
    assert size.texts == 100


def test_one_deadline_makes_no_call_smaller_that_is_no_larger_than_one_that_was_quick() -> None:
    size = CallSize(100)
    size.record_accepted(100)
    size.record_timeout(100)
    assert size.texts == 100
    size.record_timeout(100)
    assert size.texts == 50


def test_calls_that_are_answered_slowly_let_none_grow() -> None:
    size = CallSize(100)
    size.record_accepted(100, seconds=QUICK_S + 1)
    size.record_timeout(100)
    for _ in range(1_000):
        size.record_accepted(50, seconds=QUICK_S + 1)
    assert size.texts == 50
    assert accepted(size, GROW_AFTER_CALLS) == 100


def test_calls_that_begin_small_double_with_each_quick_full_call_until_one_fails_for_its_size() -> None:
    size = CallSize(256, first=32)
    assert [size.texts, accepted(size, 1), accepted(size, 1)] == [32, 64, 128]
    size.record_timeout(128)
    assert [size.texts, accepted(size, 1)] == [64, 64]


@pytest.mark.parametrize(
    ("most_texts", "most_bytes", "calls"),
    [
        (100, None, [["aaa", "鮨", "bb", "c"]]),
        (3, None, [["aaa", "鮨", "bb"], ["c"]]),
        (100, 9, [["aaa", "鮨", "bb", "c"]]),
        (100, 8, [["aaa", "鮨", "bb"], ["c"]]),
        (100, 6, [["aaa", "鮨"], ["bb", "c"]]),
        (100, 5, [["aaa"], ["鮨", "bb"], ["c"]]),
        (2, 6, [["aaa", "鮨"], ["bb", "c"]]),
        (1, 6, [["aaa"], ["鮨"], ["bb"], ["c"]]),
    ],
)
def test_a_call_has_as_many_texts_as_the_limits_of_texts_and_bytes_allow(
    most_texts: int, most_bytes: int | None, calls: list[list[str]]
) -> None:
    assert calls_for(["aaa", "鮨", "bb", "c"], most_texts=most_texts, most_bytes=most_bytes) == calls


def test_a_text_that_is_larger_than_a_call_may_be_is_sent_alone() -> None:
    assert calls_for(["a", "b" * 10, "c", "d"], most_texts=9, most_bytes=4) == [["a"], ["b" * 10], ["c", "d"]]


def test_no_texts_are_no_calls() -> None:
    assert calls_for([], most_texts=9, most_bytes=4) == []
