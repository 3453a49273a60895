"""Whenever a batcher ends, no item waits without limit, whether it is queued, lingers, is about to begin or is worked on."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from embedding_worker.batching.batcher import Batch, Batcher
from embedding_worker.errors import Interrupted
from tests.support.fake_clock import FakeClock


async def never(batch: Batch[str, str]) -> None:
    await asyncio.Event().wait()


async def finish_later_and_never(batch: Batch[str, str]) -> None:
    batch.finish_later(lambda: never(batch))


@pytest.mark.parametrize("moments", range(12))
@pytest.mark.parametrize("work", [never, finish_later_and_never])
async def test_every_item_is_interrupted_at_whatever_moment_the_batcher_ends(
    work: Callable[[Batch[str, str]], Awaitable[None]], moments: int
) -> None:
    async with asyncio.timeout(5):
        async with Batcher(work, max_items=2, concurrency=1, clock=FakeClock()) as batcher:
            submitted = [asyncio.create_task(batcher.submit(item)) for item in "abcde"]
            for _ in range(moments):
                await asyncio.sleep(0)
        results = await asyncio.gather(*submitted, return_exceptions=True)
    assert {type(result) for result in results} == {Interrupted}
