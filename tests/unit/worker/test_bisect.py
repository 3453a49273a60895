"""A batch that fails is bisected: which items get a result, which fail alone, and how many attempts it costs."""

import math
from collections.abc import Callable, Sequence

import pytest

from embedding_worker.batching.bisect import AttemptRecord, FailedAlone, Unattributed, bisect

ITEMS = [f"item {n}" for n in range(64)]


class Broken(Exception):
    """The error that is bisected in these tests."""


BROKEN = Broken()


class Bisection:
    """Attempts that fail as `fails` says of their items; keeps the attempts and the outcomes."""

    def __init__(self, fails: Callable[[Sequence[str]], Exception | None]) -> None:
        self.attempts: list[list[str]] = []
        self.outcomes: dict[str, object] = {}
        self._fails = fails

    async def run(
        self,
        *parts: Sequence[str],
        stop: Callable[[Sequence[AttemptRecord]], bool] = lambda history: False,
    ) -> "Bisection":
        async def stops(history: Sequence[AttemptRecord]) -> bool:
            return stop(history)

        async for outcomes in bisect(parts or [ITEMS], self._attempt, on=Broken, stop=stops):
            for item, outcome in outcomes:
                assert item not in self.outcomes
                self.outcomes[item] = outcome
        return self

    async def _attempt(self, items: Sequence[str]) -> list[str]:
        self.attempts.append(list(items))
        if (error := self._fails(items)) is not None:
            raise error
        return [f"result of {item}" for item in items]

    def succeeded(self) -> set[str]:
        found = {item for item, outcome in self.outcomes.items() if isinstance(outcome, str)}
        assert all(self.outcomes[item] == f"result of {item}" for item in found)
        return found

    def failed_alone(self) -> set[str]:
        return {item for item, outcome in self.outcomes.items() if outcome == FailedAlone(BROKEN)}

    def unattributed(self) -> set[str]:
        return {item for item, outcome in self.outcomes.items() if outcome == Unattributed(BROKEN)}


def failing(*culprits: int) -> Bisection:
    """Every attempt that holds a culprit fails."""
    bad = {ITEMS[number] for number in culprits}
    return Bisection(lambda items: BROKEN if bad & set(items) else None)


def all_but(*numbers: int) -> set[str]:
    return set(ITEMS) - {ITEMS[number] for number in numbers}


async def test_a_batch_that_succeeds_is_one_attempt() -> None:
    done = await failing().run()
    assert done.attempts == [ITEMS]
    assert done.succeeded() == set(ITEMS)


async def test_no_parts_are_no_attempt() -> None:
    bisection = failing()
    assert [outcomes async for outcomes in bisect([], bisection._attempt, on=Broken)] == []
    assert bisection.attempts == []


@pytest.mark.parametrize("culprit", [0, 17, 63])
async def test_one_culprit_costs_its_neighbours_nothing_but_a_few_attempts(culprit: int) -> None:
    done = await failing(culprit).run()
    assert (done.succeeded(), done.failed_alone()) == (all_but(culprit), {ITEMS[culprit]})
    assert len(done.attempts) <= 2 * math.log2(len(ITEMS)) + 1


@pytest.mark.parametrize("culprits", [(0, 40), (30, 33), (62, 63), (0, 1)], ids=str)
async def test_two_culprits_are_both_found(culprits: tuple[int, int]) -> None:
    done = await failing(*culprits).run()
    assert (done.succeeded(), done.failed_alone()) == (all_but(*culprits), {ITEMS[number] for number in culprits})
    assert len(done.attempts) <= 2 * (2 * math.log2(len(ITEMS)) + 1)


async def test_where_every_item_fails_each_one_fails_alone() -> None:
    done = await failing(*range(64)).run()
    assert (done.succeeded(), done.failed_alone()) == (set(), set(ITEMS))


async def test_larger_parts_are_attempted_before_smaller_ones() -> None:
    sizes = [len(items) for items in (await failing(17).run(ITEMS[:8], ITEMS[8:40], ITEMS[40:])).attempts]
    assert sizes[:2] == [32, 24]
    assert sizes == sorted(sizes, reverse=True)


async def test_each_part_is_an_attempt_of_its_own() -> None:
    done = await failing().run(ITEMS[:40], ITEMS[40:])
    assert done.attempts == [ITEMS[:40], ITEMS[40:]]
    assert done.succeeded() == set(ITEMS)


async def test_the_outcomes_of_an_attempt_come_before_the_next_attempt() -> None:
    bisection, seen = failing(63), []
    async for outcomes in bisect([ITEMS], bisection._attempt, on=Broken):
        seen.append((len(bisection.attempts), len(outcomes)))
    assert seen[0] == (2, 32)
    assert seen[-1] == (len(bisection.attempts), 1)


async def test_once_it_is_stopped_no_further_attempt_is_made_and_no_failure_is_attributed() -> None:
    done = await failing(*range(32, 64)).run(stop=lambda history: len(history) == 5)
    assert len(done.attempts) == 5
    assert (done.succeeded(), done.unattributed()) == (set(ITEMS[:32]), set(ITEMS[32:]))


async def test_an_item_that_failed_alone_before_the_stop_is_not_attributed() -> None:
    done = await failing(0, 1).run(ITEMS[:2], stop=lambda history: len(history) == 3)
    assert (done.failed_alone(), done.unattributed()) == (set(), set(ITEMS[:2]))


async def test_the_stop_rule_sees_every_attempt_with_its_size_and_error() -> None:
    seen: list[list[AttemptRecord]] = []

    def stop(history: Sequence[AttemptRecord]) -> bool:
        seen.append(list(history))
        return False

    await failing(0).run(ITEMS[:4], stop=stop)
    sizes_and_errors = [(4, BROKEN), (2, BROKEN), (2, None), (1, BROKEN)]
    assert seen[-1] == [AttemptRecord(items, error) for items, error in sizes_and_errors]


async def test_an_attempt_may_leave_some_of_its_items_unattributed() -> None:
    async def attempt(items: Sequence[str]) -> list[str | Unattributed[Broken]]:
        return ["done", *(Unattributed(BROKEN) for _ in items[1:])]

    (outcomes,) = [outcomes async for outcomes in bisect([ITEMS[:3]], attempt, on=Broken)]
    assert outcomes == (
        (ITEMS[0], "done"),
        (ITEMS[1], Unattributed(BROKEN)),
        (ITEMS[2], Unattributed(BROKEN)),
    )


async def test_a_wrong_number_of_results_is_an_error_and_pairs_nothing() -> None:
    async def attempt(items: Sequence[str]) -> list[str]:
        return ["one result"]

    with pytest.raises(ValueError, match="zip"):
        _ = [outcomes async for outcomes in bisect([ITEMS], attempt, on=Broken)]


async def test_an_error_of_another_type_is_raised_to_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        await Bisection(lambda items: ZeroDivisionError()).run()


async def test_a_part_that_has_become_too_large_is_split_without_an_attempt() -> None:
    most, attempted = 8, []

    async def attempt(items: Sequence[str]) -> list[str]:
        nonlocal most
        most = 2
        attempted.append(len(items))
        return list(items)

    parts = [["a"] * 8, ["b"] * 8, ["c"]]
    assert len([part async for part in bisect(parts, attempt, on=Broken, most_items=lambda: most)]) == 6
    assert attempted == [8, 2, 2, 2, 2, 1]
