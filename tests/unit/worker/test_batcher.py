"""Company for a row: who is gathered with whom, when, and what each one gets."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from embedding_worker.batching.batcher import Batch, Batcher
from embedding_worker.errors import Interrupted
from tests.support.deadline import eventually

A_WHILE_S = 600.0
"""Far longer than a test may take: whoever waits for so long hangs."""
Numbers = Batch[int, str]


class Work:
    """Settles what it is given, and keeps the batches. While `gate` is shut, it waits."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, batch: Numbers) -> None:
        self.batches.append(batch.items)
        await self.gate.wait()
        for place, item in enumerate(batch.items):
            batch.settle(place, f"result {item}")


@pytest.fixture
def work() -> Work:
    return Work()


async def settled_down() -> None:
    """Every task that can go on does."""
    for _ in range(50):
        await asyncio.sleep(0)


async def within_a_second(waiting: Awaitable[Any]) -> Any:
    async with asyncio.timeout(1):
        return await waiting


def tasks(*coroutines: Coroutine[Any, Any, str]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(coroutine) for coroutine in coroutines]


async def test_each_item_gets_its_own_result(work: Work) -> None:
    async with Batcher(work, max_items=3, linger_s=A_WHILE_S) as batcher:
        results = await within_a_second(asyncio.gather(*(batcher.submit(n) for n in range(3))))
    assert results == ["result 0", "result 1", "result 2"]


async def test_what_comes_together_is_worked_on_together_up_to_the_most(work: Work) -> None:
    async with Batcher(work, max_items=3, linger_s=A_WHILE_S) as batcher:
        await within_a_second(asyncio.gather(*(batcher.submit(n) for n in range(6))))
    assert work.batches == [(0, 1, 2), (3, 4, 5)]


async def test_a_full_batch_waits_for_nobody(work: Work) -> None:
    async with Batcher(work, max_items=1, linger_s=A_WHILE_S) as batcher:
        assert await within_a_second(batcher.submit(7)) == "result 7"


async def test_a_batch_that_is_not_full_waits_for_company_and_then_goes_alone(work: Work) -> None:
    async with Batcher(work, max_items=64, linger_s=0.01) as batcher:
        assert await within_a_second(batcher.submit(7)) == "result 7"
    assert work.batches == [(7,)]


async def test_until_its_time_is_over_a_batch_is_not_begun(work: Work) -> None:
    async with Batcher(work, max_items=64, linger_s=A_WHILE_S) as batcher:
        waiting = asyncio.create_task(batcher.submit(7))
        await settled_down()
        assert (work.batches, waiting.done()) == ([], False)
        waiting.cancel()


async def test_what_is_urgent_goes_first_and_the_rest_as_it_came(work: Work) -> None:
    work.gate.clear()
    async with Batcher(work, max_items=2, linger_s=A_WHILE_S, concurrency=1) as batcher:
        first = tasks(batcher.submit(0), batcher.submit(1))
        await settled_down()  # the only slot is taken, and the queue grows
        slow = tasks(batcher.submit(2), batcher.submit(3))
        await settled_down()
        urgent = tasks(batcher.submit(4, urgent=True), batcher.submit(5, urgent=True))
        await settled_down()
        work.gate.set()
        await within_a_second(asyncio.gather(*first, *slow, *urgent))
    assert work.batches == [(0, 1), (4, 5), (2, 3)]


async def test_no_more_batches_than_allowed_are_worked_on_at_once(work: Work) -> None:
    work.gate.clear()
    async with Batcher(work, max_items=1, concurrency=2) as batcher:
        submitted = tasks(*(batcher.submit(n) for n in range(4)))
        await settled_down()
        assert work.batches == [(0,), (1,)]
        work.gate.set()
        await within_a_second(asyncio.gather(*submitted))
    assert work.batches == [(0,), (1,), (2,), (3,)]


async def test_whoever_is_settled_early_does_not_wait_for_the_others() -> None:
    others = asyncio.Event()

    async def work(batch: Numbers) -> None:
        batch.settle(1, "early")
        await others.wait()
        batch.settle(0, "late")

    async with Batcher(work, max_items=2) as batcher:
        late, early = tasks(batcher.submit(0), batcher.submit(1))
        assert await within_a_second(early) == "early"
        assert not late.done()
        others.set()
        assert await within_a_second(late) == "late"


async def test_what_is_done_later_gives_its_slot_to_the_next_batch() -> None:
    lock_is_free = asyncio.Event()

    async def rest(batch: Numbers) -> None:
        await lock_is_free.wait()
        batch.settle(0, "later")

    async def work(batch: Numbers) -> None:
        if batch.items == (0,):
            batch.later(lambda: rest(batch))
        else:
            batch.settle(0, "now")

    async with Batcher(work, max_items=1, concurrency=1) as batcher:
        (locked,) = tasks(batcher.submit(0))
        assert await within_a_second(batcher.submit(1)) == "now"
        assert not locked.done()
        lock_is_free.set()
        assert await within_a_second(locked) == "later"


async def test_an_error_reaches_all_who_are_not_settled() -> None:
    async def work(batch: Numbers) -> None:
        batch.settle(0, "settled")
        raise ZeroDivisionError

    async with Batcher(work, max_items=3) as batcher:
        results = await within_a_second(asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True))
    assert results[0] == "settled"
    assert [type(result) for result in results[1:]] == [ZeroDivisionError, ZeroDivisionError]


async def test_an_error_in_what_is_done_later_reaches_whoever_waits_for_it() -> None:
    async def rest() -> None:
        raise ZeroDivisionError

    async def work(batch: Numbers) -> None:
        batch.later(rest)

    async with Batcher(work, max_items=1) as batcher:
        with pytest.raises(ZeroDivisionError):
            await within_a_second(batcher.submit(0))


async def test_a_batch_that_failed_stops_no_later_one(work: Work) -> None:
    async def fails_once(batch: Numbers) -> None:
        if batch.items == (0,):
            raise ZeroDivisionError
        await work(batch)

    async with Batcher(fails_once, max_items=1, concurrency=1) as batcher:
        with pytest.raises(ZeroDivisionError):
            await within_a_second(batcher.submit(0))
        assert await within_a_second(batcher.submit(1)) == "result 1"


async def interrupted_at_the_end(
    work: Callable[[Numbers], Awaitable[None]], *, submitted: int, concurrency: int = 1, max_items: int = 1
) -> list[object]:
    """What whoever submitted gets when the batcher ends while they wait."""
    async with Batcher(work, max_items=max_items, linger_s=A_WHILE_S, concurrency=concurrency) as batcher:
        waiting = tasks(*(batcher.submit(n) for n in range(submitted)))
        await settled_down()
    results: list[object] = list(await within_a_second(asyncio.gather(*waiting, return_exceptions=True)))
    return results


async def test_at_the_end_whoever_is_worked_on_and_whoever_waits_is_interrupted(work: Work) -> None:
    work.gate.clear()
    results = await interrupted_at_the_end(work, submitted=3)
    assert work.batches == [(0,)]
    assert [type(result) for result in results] == [Interrupted] * 3


async def test_at_the_end_whoever_waits_for_company_is_interrupted(work: Work) -> None:
    results = await interrupted_at_the_end(work, submitted=2, max_items=64)
    assert work.batches == []
    assert [type(result) for result in results] == [Interrupted] * 2


async def test_at_the_end_what_was_to_be_done_later_is_interrupted() -> None:
    never = asyncio.Event()

    async def rest() -> None:
        await never.wait()

    async def work(batch: Numbers) -> None:
        batch.later(rest)

    (result,) = await interrupted_at_the_end(work, submitted=1)
    assert isinstance(result, Interrupted)


async def test_what_would_be_done_later_is_not_begun_after_the_end() -> None:
    begun: list[str] = []

    async def rest() -> None:
        begun.append("rest")

    async def work(batch: Numbers) -> None:
        batch.later(rest)
        await asyncio.Event().wait()

    (result,) = await interrupted_at_the_end(work, submitted=1)
    assert isinstance(result, Interrupted)
    assert begun == []


async def test_after_the_end_nothing_is_taken(work: Work) -> None:
    async with Batcher(work, max_items=1) as batcher:
        pass
    with pytest.raises(Interrupted):
        await batcher.submit(0)


async def test_whoever_gives_up_before_its_batch_begins_is_left_out_of_it(work: Work) -> None:
    work.gate.clear()
    async with Batcher(work, max_items=3, linger_s=0.01, concurrency=1) as batcher:
        (first,) = tasks(batcher.submit(0))
        await begun(work, 1)
        one, gives_up, two = tasks(batcher.submit(1), batcher.submit(2), batcher.submit(3))
        await settled_down()
        gives_up.cancel()
        await settled_down()
        work.gate.set()
        assert await within_a_second(asyncio.gather(first, one, two)) == ["result 0", "result 1", "result 3"]
    assert work.batches == [(0,), (1, 3)]


async def begun(work: Work, batches: int) -> None:
    await eventually(lambda: len(work.batches) >= batches, within_s=1, because="the batcher gathers")


async def test_whoever_gives_up_while_its_batch_is_worked_on_hurts_nobody(work: Work) -> None:
    work.gate.clear()
    async with Batcher(work, max_items=3, linger_s=A_WHILE_S) as batcher:
        one, gives_up, two = tasks(batcher.submit(1), batcher.submit(2), batcher.submit(3))
        await begun(work, 1)
        gives_up.cancel()
        with suppress(asyncio.CancelledError):
            await gives_up
        work.gate.set()
        assert await within_a_second(asyncio.gather(one, two)) == ["result 1", "result 3"]
