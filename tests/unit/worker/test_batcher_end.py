"""Whenever a batcher ends, no item waits without limit, whether it is queued, lingers, is about to begin or is worked on."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from embedding_worker.batching.batch import Batch
from embedding_worker.batching.batcher import Batcher
from embedding_worker.errors import Interrupted
from tests.support.fake_clock import FakeClock, settle


async def never(batch: Batch[str, str]) -> None:
    await asyncio.Event().wait()


async def finish_later_and_never(batch: Batch[str, str]) -> None:
    batch.finish_later(lambda: never(batch))


@pytest.mark.parametrize("moments", range(12))
@pytest.mark.parametrize("work", [never, finish_later_and_never])
async def test_every_item_is_interrupted_at_whatever_moment_the_batcher_ends(
    work: Callable[[Batch[str, str]], Awaitable[None]], moments: int
) -> None:
    async with asyncio.timeout(60):
        async with Batcher(work, max_items=2, concurrency=1, clock=FakeClock()) as batcher:
            submitted = [asyncio.create_task(batcher.submit(item)) for item in "abcde"]
            for _ in range(moments):
                await asyncio.sleep(0)
        results = await asyncio.gather(*submitted, return_exceptions=True)
    assert {type(result) for result in results} == {Interrupted}


async def test_a_batcher_that_drains_finishes_its_batches_and_interrupts_what_is_in_no_batch_yet() -> None:
    may_end, clock = asyncio.Event(), FakeClock()

    async def work(batch: Batch[str, str]) -> None:
        await may_end.wait()
        for item in batch.items:
            batch.settle(item, item.upper())

    async with asyncio.timeout(60), Batcher(work, max_items=1, concurrency=1, clock=clock) as batcher:
        submitted = [asyncio.create_task(batcher.submit(item)) for item in "abc"]
        await settle()
        batcher.drain()
        await settle()
        assert [task.done() for task in submitted] == [False, True, True]
        may_end.set()
        results = await asyncio.gather(*submitted, batcher.submit("d"), return_exceptions=True)
    assert [result if isinstance(result, str) else type(result) for result in results] == ["A", *[Interrupted] * 3]
