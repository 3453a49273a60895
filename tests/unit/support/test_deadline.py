"""The tests' own way of waiting."""

import pytest

from tests.support.deadline import eventually, wait_until


async def test_it_returns_what_the_check_gave_at_last() -> None:
    answers = iter([0, None, "found"])
    assert await eventually(lambda: next(answers), within_s=5, every_s=0, because="it comes third") == "found"


async def test_a_check_may_be_a_coroutine_that_asserts() -> None:
    seen: list[int] = []

    async def third_time() -> bool:
        seen.append(1)
        assert len(seen) == 3, f"seen {len(seen)}"
        return True

    assert await eventually(third_time, within_s=5, every_s=0, because="it comes third")


async def test_what_failed_last_is_said() -> None:
    def never() -> bool:
        raise AssertionError("the row is stale")

    with pytest.raises(AssertionError, match="although it was written; at last: the row is stale"):
        await eventually(never, within_s=0, because="it was written")


def test_without_an_event_loop_it_is_the_same() -> None:
    answers = iter([[], [1]])
    assert wait_until(lambda: next(answers), within_s=5, every_s=0, because="it comes second") == [1]
    with pytest.raises(AssertionError, match="at last: it gave 0"):
        wait_until(lambda: 0, within_s=0, because="never")


def test_other_errors_are_not_waited_away() -> None:
    def broken() -> bool:
        raise KeyError("typo")

    with pytest.raises(KeyError):
        wait_until(broken, within_s=5, because="never")
