"""Waiting for a condition with a deadline."""

import pytest

from tests.support.deadline import eventually, wait_until


async def test_the_first_true_result_is_returned() -> None:
    answers = iter([0, None, "found"])
    assert await eventually(lambda: next(answers), within_s=5, every_s=0, because="the third result is true") == "found"


async def test_a_check_may_be_a_coroutine_that_asserts() -> None:
    calls: list[int] = []

    async def third_call() -> bool:
        calls.append(1)
        assert len(calls) == 3, f"{len(calls)} calls"
        return True

    assert await eventually(third_call, within_s=5, every_s=0, because="the third result is true")


async def test_the_message_contains_the_last_failure() -> None:
    def never() -> bool:
        raise AssertionError("the row is due")

    with pytest.raises(AssertionError, match="although it was written; last result: the row is due"):
        await eventually(never, within_s=0, because="it was written")


def test_a_test_without_an_event_loop_waits_in_the_same_way() -> None:
    answers = iter([[], [1]])
    assert wait_until(lambda: next(answers), within_s=5, every_s=0, because="the second result is true") == [1]
    with pytest.raises(AssertionError, match="last result: 0"):
        wait_until(lambda: 0, within_s=0, because="never")


def test_any_other_error_ends_the_wait() -> None:
    def broken() -> bool:
        raise KeyError("any")

    with pytest.raises(KeyError):
        wait_until(broken, within_s=5, because="never")
