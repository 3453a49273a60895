"""Which items become one batch, when a batch begins, and which result each item gets."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from embedding_worker.batching.batch import Batch
from embedding_worker.batching.batcher import LONGEST_LINGER_S, QUIET_S, URGENT_LINGER_S, Batcher
from embedding_worker.clock import Clock
from embedding_worker.errors import Interrupted
from tests.support.deadline import eventually
from tests.support.fake_clock import FakeClock

LINGER_S = 0.05
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
        for item in batch.items:
            batch.settle(item, f"result {item}")


def batcher_of(
    work: Callable[[Numbers], Awaitable[None]], *, max_items: int, concurrency: int = 2, clock: Clock | None = None
) -> Batcher[int, str]:
    """A batcher on a clock that stands still, unless a test moves it: only full batches begin."""
    clock = clock or FakeClock()
    return Batcher(work, max_items=max_items, linger_s=LINGER_S, concurrency=concurrency, clock=clock)


@pytest.fixture
def work() -> Work:
    return Work()


async def settled_down() -> None:
    """Every task that can go on does."""
    for _ in range(50):
        await asyncio.sleep(0)


async def in_time(waiting: Awaitable[Any]) -> Any:
    async with asyncio.timeout(30):
        return await waiting


def tasks(*coroutines: Coroutine[Any, Any, str]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(coroutine) for coroutine in coroutines]


async def test_each_item_gets_its_own_result(work: Work) -> None:
    async with batcher_of(work, max_items=3) as batcher:
        results = await in_time(asyncio.gather(*(batcher.submit(n) for n in range(3))))
    assert results == ["result 0", "result 1", "result 2"]


async def test_items_that_arrive_together_become_batches_of_at_most_max_items(work: Work) -> None:
    async with batcher_of(work, max_items=3) as batcher:
        await in_time(asyncio.gather(*(batcher.submit(n) for n in range(6))))
    assert work.batches == [(0, 1, 2), (3, 4, 5)]


async def test_a_batch_has_no_more_items_than_one_call_takes_now(work: Work) -> None:
    """An urgent item that arrives meanwhile waits for the whole batch."""
    of_one_call = 2
    async with Batcher(work, max_items=4, clock=FakeClock(), of_one_call=lambda: of_one_call) as batcher:
        await in_time(asyncio.gather(*(batcher.submit(n) for n in range(4))))
        of_one_call = 8
        await in_time(asyncio.gather(*(batcher.submit(n) for n in range(4, 8))))
    assert work.batches == [(0, 1), (2, 3), (4, 5, 6, 7)]


async def test_a_full_batch_begins_at_once(work: Work) -> None:
    async with batcher_of(work, max_items=1) as batcher:
        assert await in_time(batcher.submit(7)) == "result 7"


async def test_a_batch_that_is_not_full_begins_when_its_linger_is_over_and_no_sooner(work: Work) -> None:
    clock = FakeClock()
    async with batcher_of(work, max_items=64, clock=clock) as batcher:
        waiting = asyncio.create_task(batcher.submit(7))
        await clock.advance(LINGER_S * 0.9)
        assert (work.batches, waiting.done()) == ([], False)
        await clock.advance(LINGER_S * 0.2)
        assert await in_time(waiting) == "result 7"
    assert work.batches == [(7,)]


async def test_what_arrives_while_a_batch_lingers_is_added_and_prolongs_nothing(work: Work) -> None:
    clock = FakeClock()
    async with batcher_of(work, max_items=64, clock=clock) as batcher:
        waiting = []
        for n in range(3):
            waiting += tasks(batcher.submit(n))
            await clock.advance(LINGER_S / 2)
        assert work.batches == [(0, 1)]
        await clock.advance(LINGER_S)
        assert await in_time(asyncio.gather(*waiting)) == ["result 0", "result 1", "result 2"]


async def test_two_equal_items_of_a_batch_share_one_result(work: Work) -> None:
    async with batcher_of(work, max_items=3) as batcher:
        results = await in_time(asyncio.gather(*map(batcher.submit, (5, 6, 5))))
    assert results == ["result 5", "result 6", "result 5"]
    assert work.batches == [(5, 6)]


async def test_urgent_items_go_first_and_the_others_in_the_order_of_arrival(work: Work) -> None:
    work.gate.clear()
    async with batcher_of(work, max_items=2, concurrency=1) as batcher:
        first = tasks(batcher.submit(0), batcher.submit(1))
        await settled_down()  # the only slot is in use, and the queue grows
        slow = tasks(batcher.submit(2), batcher.submit(3))
        await settled_down()
        urgent = tasks(batcher.submit(4, urgent=True), batcher.submit(5, urgent=True))
        await settled_down()
        work.gate.set()
        await in_time(asyncio.gather(*first, *slow, *urgent))
    assert work.batches == [(0, 1), (4, 5), (2, 3)]


async def test_no_more_batches_than_allowed_are_worked_on_at_once(work: Work) -> None:
    work.gate.clear()
    async with batcher_of(work, max_items=1, concurrency=2) as batcher:
        submitted = tasks(*(batcher.submit(n) for n in range(4)))
        await settled_down()
        assert work.batches == [(0,), (1,)]
        work.gate.set()
        await in_time(asyncio.gather(*submitted))
    assert work.batches == [(0,), (1,), (2,), (3,)]


async def test_an_item_that_is_settled_early_does_not_wait_for_the_others() -> None:
    others = asyncio.Event()

    async def work(batch: Numbers) -> None:
        batch.settle(1, "early")
        await others.wait()
        batch.settle(0, "late")

    async with batcher_of(work, max_items=2) as batcher:
        late, early = tasks(batcher.submit(0), batcher.submit(1))
        assert await in_time(early) == "early"
        assert not late.done()
        others.set()
        assert await in_time(late) == "late"


async def test_work_that_is_finished_later_gives_its_slot_to_the_next_batch() -> None:
    lock_is_free = asyncio.Event()

    async def finish(batch: Numbers) -> None:
        await lock_is_free.wait()
        batch.settle(0, "later")

    async def work(batch: Numbers) -> None:
        if batch.items == (0,):
            batch.finish_later(lambda: finish(batch))
        else:
            batch.settle(1, "now")

    async with batcher_of(work, max_items=1, concurrency=1) as batcher:
        (locked,) = tasks(batcher.submit(0))
        assert await in_time(batcher.submit(1)) == "now"
        assert not locked.done()
        lock_is_free.set()
        assert await in_time(locked) == "later"


async def test_a_batch_that_leaves_its_slot_early_lets_the_next_one_begin_and_gives_back_no_other() -> None:
    is_written = asyncio.Event()
    batches: list[tuple[int, ...]] = []

    async def work(batch: Numbers) -> None:
        batches.append(batch.items)
        batch.leave_slot()
        batch.leave_slot()
        await is_written.wait()
        batch.settle(batch.items[0], "written")

    async with batcher_of(work, max_items=1, concurrency=1) as batcher:
        submitted = tasks(batcher.submit(0), batcher.submit(1))
        await settled_down()
        assert batches == [(0,), (1,)]
        is_written.set()
        assert await in_time(asyncio.gather(*submitted)) == ["written", "written"]
        await settled_down()
        is_written.clear()
        (third,) = tasks(batcher.submit(2))
        await settled_down()
        third.cancel()
    assert batches == [(0,), (1,), (2,)]


async def test_an_error_reaches_all_items_that_are_not_settled() -> None:
    async def work(batch: Numbers) -> None:
        batch.settle(0, "settled")
        raise ZeroDivisionError

    async with batcher_of(work, max_items=3) as batcher:
        results = await in_time(asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True))
    assert results[0] == "settled"
    assert [type(result) for result in results[1:]] == [ZeroDivisionError, ZeroDivisionError]


async def test_an_error_in_work_that_is_finished_later_reaches_the_items_that_wait_for_it() -> None:
    async def finish() -> None:
        raise ZeroDivisionError

    async def work(batch: Numbers) -> None:
        batch.finish_later(finish)

    async with batcher_of(work, max_items=1) as batcher:
        with pytest.raises(ZeroDivisionError):
            await in_time(batcher.submit(0))


async def test_a_batch_that_failed_stops_no_later_one(work: Work) -> None:
    async def fails_once(batch: Numbers) -> None:
        if batch.items == (0,):
            raise ZeroDivisionError
        await work(batch)

    async with batcher_of(fails_once, max_items=1, concurrency=1) as batcher:
        with pytest.raises(ZeroDivisionError):
            await in_time(batcher.submit(0))
        assert await in_time(batcher.submit(1)) == "result 1"


async def interrupted_at_the_end(
    work: Callable[[Numbers], Awaitable[None]], *, submitted: int, concurrency: int = 1, max_items: int = 1
) -> list[object]:
    """The results of items whose batcher ends while they wait."""
    async with batcher_of(work, max_items=max_items, concurrency=concurrency) as batcher:
        waiting = tasks(*(batcher.submit(n) for n in range(submitted)))
        await settled_down()
    results: list[object] = list(await in_time(asyncio.gather(*waiting, return_exceptions=True)))
    return results


async def test_at_the_end_items_in_a_batch_and_items_in_the_queue_are_interrupted(work: Work) -> None:
    work.gate.clear()
    results = await interrupted_at_the_end(work, submitted=3)
    assert work.batches == [(0,)]
    assert [type(result) for result in results] == [Interrupted] * 3


async def test_at_the_end_items_of_a_lingering_batch_are_interrupted(work: Work) -> None:
    results = await interrupted_at_the_end(work, submitted=2, max_items=64)
    assert work.batches == []
    assert [type(result) for result in results] == [Interrupted] * 2


async def test_at_the_end_work_that_was_to_be_finished_later_is_interrupted() -> None:
    never = asyncio.Event()

    async def finish() -> None:
        await never.wait()

    async def work(batch: Numbers) -> None:
        batch.finish_later(finish)

    (result,) = await interrupted_at_the_end(work, submitted=1)
    assert isinstance(result, Interrupted)


async def test_work_that_was_to_be_finished_later_is_not_begun_after_the_end() -> None:
    begun: list[str] = []

    async def finish() -> None:
        begun.append("finish")

    async def work(batch: Numbers) -> None:
        batch.finish_later(finish)
        await asyncio.Event().wait()

    (result,) = await interrupted_at_the_end(work, submitted=1)
    assert isinstance(result, Interrupted)
    assert begun == []


async def test_after_the_end_no_item_is_accepted(work: Work) -> None:
    async with batcher_of(work, max_items=1) as batcher:
        pass
    with pytest.raises(Interrupted):
        await batcher.submit(0)


async def test_an_item_that_is_cancelled_before_its_batch_begins_is_left_out_of_it(work: Work) -> None:
    work.gate.clear()
    clock = FakeClock()
    async with batcher_of(work, max_items=3, concurrency=1, clock=clock) as batcher:
        (first,) = tasks(batcher.submit(0))
        await clock.advance(LINGER_S)
        one, cancelled, two = tasks(batcher.submit(1), batcher.submit(2), batcher.submit(3))
        await settled_down()
        cancelled.cancel()
        await settled_down()
        work.gate.set()
        await clock.advance(LINGER_S)
        assert await in_time(asyncio.gather(first, one, two)) == ["result 0", "result 1", "result 3"]
    assert work.batches == [(0,), (1, 3)]


async def begun(work: Work, batches: int) -> None:
    await eventually(lambda: len(work.batches) >= batches, within_s=30, because="the batcher gathers")


async def test_an_item_that_is_cancelled_during_its_batch_affects_no_other_item(work: Work) -> None:
    work.gate.clear()
    async with batcher_of(work, max_items=3) as batcher:
        one, cancelled, two = tasks(batcher.submit(1), batcher.submit(2), batcher.submit(3))
        await begun(work, 1)
        cancelled.cancel()
        with suppress(asyncio.CancelledError):
            await cancelled
        work.gate.set()
        assert await in_time(asyncio.gather(one, two)) == ["result 1", "result 3"]


def lingering(work: Work, clock: FakeClock, more_to_come: Callable[[int, bool], bool]) -> Batcher[int, str]:
    return Batcher(work, max_items=4, linger_s=LINGER_S, clock=clock, more_to_come=more_to_come)


async def test_while_more_items_are_known_to_come_a_batch_waits_until_it_is_full(work: Work) -> None:
    clock = FakeClock()
    async with lingering(work, clock, lambda gathered, urgent: not urgent) as batcher:
        waiting = tasks(batcher.submit(0))
        for n in (1, 2):
            await clock.advance(LINGER_S * 4)
            waiting += tasks(batcher.submit(n))
        await clock.advance(LINGER_S * 4)
        assert work.batches == []
        waiting += tasks(batcher.submit(3))
        await in_time(asyncio.gather(*waiting))
    assert work.batches == [(0, 1, 2, 3)]


async def test_a_batch_begins_when_no_more_items_are_to_come(work: Work) -> None:
    clock, coming = FakeClock(), {2}
    async with lingering(work, clock, lambda gathered, urgent: bool(coming)) as batcher:
        waiting = tasks(batcher.submit(0))
        await clock.advance(LINGER_S * 5)
        assert work.batches == []
        coming.clear()
        await clock.advance(LINGER_S * 1.1)
        assert await in_time(asyncio.gather(*waiting)) == ["result 0"]


async def test_whether_more_items_are_to_come_is_asked_with_the_number_that_waits(work: Work) -> None:
    clock = FakeClock()
    async with lingering(work, clock, lambda gathered, urgent: gathered < 2) as batcher:
        waiting = tasks(batcher.submit(0))
        await clock.advance(LINGER_S * 5)
        waiting += tasks(batcher.submit(1))
        await clock.advance(LINGER_S * 2)
        await in_time(asyncio.gather(*waiting))
    assert work.batches == [(0, 1)]


async def test_items_that_do_not_come_after_all_are_not_waited_for_without_limit(work: Work) -> None:
    clock = FakeClock()
    async with lingering(work, clock, lambda gathered, urgent: not urgent) as batcher:
        (waiting,) = tasks(batcher.submit(0))
        await clock.advance(QUIET_S - LINGER_S)
        assert not waiting.done()
        await clock.advance(LINGER_S * 2.1)
        assert await in_time(waiting) == "result 0"


async def test_items_that_come_slowly_are_not_waited_for_without_limit(work: Work) -> None:
    clock = FakeClock()
    batcher = Batcher(work, max_items=64, linger_s=LINGER_S, clock=clock, more_to_come=lambda gathered, urgent: True)
    async with batcher:
        waiting: list[asyncio.Task[str]] = []
        passed_s = 0.0
        while not work.batches:
            waiting += tasks(batcher.submit(len(waiting)))
            await clock.advance(QUIET_S / 2)
            passed_s += QUIET_S / 2
        assert passed_s <= LONGEST_LINGER_S + QUIET_S
        assert await in_time(waiting[0]) == "result 0"


async def test_an_urgent_item_waits_for_no_others_and_takes_those_along_that_wait(work: Work) -> None:
    clock = FakeClock()
    async with lingering(work, clock, lambda gathered, urgent: not urgent) as batcher:
        waiting = tasks(batcher.submit(0))
        await clock.advance(LINGER_S * 4)
        waiting += tasks(batcher.submit(1, urgent=True))
        await clock.advance(LINGER_S * 1.1)
        await in_time(asyncio.gather(*waiting))
    assert work.batches == [(0, 1)]


async def test_an_urgent_item_begins_at_once_while_a_slot_is_free(work: Work) -> None:
    async with batcher_of(work, max_items=64) as batcher:
        assert await in_time(batcher.submit(7, urgent=True)) == "result 7"
    assert work.batches == [(7,)]


def urgent_coming(work: Work, clock: FakeClock, coming: set[int]) -> Batcher[int, str]:
    return Batcher(
        work,
        max_items=64,
        linger_s=LINGER_S,
        clock=clock,
        more_to_come=lambda gathered, urgent: urgent and bool(coming),
    )


async def test_urgent_items_that_are_about_to_arrive_share_a_batch(work: Work) -> None:
    clock, coming = FakeClock(), {2, 3}
    async with urgent_coming(work, clock, coming) as batcher:
        waiting = tasks(batcher.submit(1, urgent=True))
        for n in (2, 3):
            await clock.advance(LINGER_S / 10)
            coming.discard(n)
            waiting += tasks(batcher.submit(n, urgent=True))
        await in_time(asyncio.gather(*waiting))
    assert work.batches == [(1, 2, 3)]


async def test_urgent_items_that_arrive_slowly_or_not_at_all_are_waited_for_for_a_quarter_of_a_second(
    work: Work,
) -> None:
    """So a few hundred rows that were edited together cost few calls."""
    clock, arrived = FakeClock(), int(URGENT_LINGER_S / LINGER_S)
    async with urgent_coming(work, clock, {100}) as batcher:
        waiting = tasks(batcher.submit(0, urgent=True))
        for n in range(1, arrived):
            await clock.advance(LINGER_S)
            waiting += tasks(batcher.submit(n, urgent=True))
        await clock.advance(LINGER_S * 0.9)
        assert work.batches == []
        await clock.advance(LINGER_S * 1.2)
        await in_time(asyncio.gather(*waiting))
    assert work.batches == [tuple(range(arrived))]


async def test_urgent_items_have_a_slot_of_their_own_while_all_others_are_taken(work: Work) -> None:
    work.gate.clear()
    async with batcher_of(work, max_items=1, concurrency=2) as batcher:
        slow = tasks(*(batcher.submit(n) for n in range(3)))
        await settled_down()
        urgent = tasks(*(batcher.submit(n, urgent=True) for n in (7, 8)))
        await settled_down()
        assert work.batches == [(0,), (1,), (7,)]
        work.gate.set()
        await in_time(asyncio.gather(*slow, *urgent))
    assert work.batches[3:] == [(8,), (2,)]


async def test_a_batch_that_lingers_for_others_begins_when_the_batcher_is_drained(work: Work) -> None:
    clock = FakeClock()
    async with lingering(work, clock, lambda gathered, urgent: not urgent) as batcher:
        (waiting,) = tasks(batcher.submit(0))
        await clock.advance(LINGER_S * 4)
        batcher.drain()
        await clock.advance(LINGER_S * 1.1)
        assert await in_time(waiting) == "result 0"


async def test_a_batch_that_is_being_gathered_begins_when_one_of_its_items_is_hurried(work: Work) -> None:
    clock = FakeClock()
    more = lambda gathered, urgent: not urgent  # noqa: E731
    async with Batcher(work, max_items=4, clock=clock, linger_s=LINGER_S, more_to_come=more) as batcher:
        waiting = tasks(batcher.submit(1), batcher.submit(2), batcher.submit(3))
        await clock.advance(LINGER_S * 2)
        assert work.batches == []
        batcher.hurry(2)
        assert await in_time(asyncio.gather(*waiting)) == ["result 1", "result 2", "result 3"]
    assert work.batches == [(1, 3, 2)]


async def test_an_item_that_is_hurried_in_the_queue_gets_the_slot_of_urgent_items(work: Work) -> None:
    work.gate.clear()
    async with batcher_of(work, max_items=2, concurrency=1) as batcher:
        waiting = tasks(*(batcher.submit(n) for n in range(7)))
        await settled_down()
        assert work.batches == [(0, 1)]
        batcher.hurry(5)
        await settled_down()
        assert work.batches == [(0, 1), (5,)]
        work.gate.set()
        await in_time(asyncio.gather(*waiting))
    assert work.batches == [(0, 1), (5,), (2, 3), (4, 6)]


async def test_an_item_whose_batch_has_begun_cannot_be_hurried_and_is_worked_on_once(work: Work) -> None:
    work.gate.clear()
    async with batcher_of(work, max_items=2) as batcher:
        waiting = tasks(batcher.submit(0), batcher.submit(1))
        await settled_down()
        batcher.hurry(1)
        batcher.hurry(7)
        await settled_down()
        work.gate.set()
        assert await in_time(asyncio.gather(*waiting)) == ["result 0", "result 1"]
    assert work.batches == [(0, 1)]
