"""Waiting for a condition with a deadline."""

import pytest

from tests.support.deadline import eventually, wait_until


async def test_it_returns_the_first_true_result() -> None:
    answers = iter([0, None, "found"])
    assert await eventually(lambda: next(answers), within_s=60, every_s=0, because="it comes third") == "found"


async def test_a_check_may_be_a_coroutine_that_asserts() -> None:
    seen: list[int] = []

    async def third_time() -> bool:
        seen.append(1)
        assert len(seen) == 3, f"seen {len(seen)}"
        return True

    assert await eventually(third_time, within_s=60, every_s=0, because="it comes third")


async def test_the_last_failure_is_shown() -> None:
    def never() -> bool:
        raise AssertionError("the row is stale")

    with pytest.raises(AssertionError, match="although it was written; the last result: the row is stale"):
        await eventually(never, within_s=0, because="it was written")


def test_the_same_holds_without_an_event_loop() -> None:
    answers = iter([[], [1]])
    assert wait_until(lambda: next(answers), within_s=60, every_s=0, because="it comes second") == [1]
    with pytest.raises(AssertionError, match="the last result: 0"):
        wait_until(lambda: 0, within_s=0, because="never")


def test_other_errors_end_the_wait() -> None:
    def broken() -> bool:
        raise KeyError("typo")

    with pytest.raises(KeyError):
        wait_until(broken, within_s=5, because="never")
