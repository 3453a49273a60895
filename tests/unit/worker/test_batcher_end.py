"""Whenever a batcher ends, nobody hangs: in the queue, in a batch that is gathered, that has not begun, or that is worked on."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from embedding_worker.batching.batcher import Batch, Batcher
from embedding_worker.errors import Interrupted


async def never(batch: Batch[str, str]) -> None:
    await asyncio.Event().wait()


async def later_and_never(batch: Batch[str, str]) -> None:
    batch.later(lambda: never(batch))


@pytest.mark.parametrize("moments", range(12))
@pytest.mark.parametrize("work", [never, later_and_never])
async def test_whoever_waits_is_interrupted_at_whatever_moment_it_ends(
    work: Callable[[Batch[str, str]], Awaitable[None]], moments: int
) -> None:
    async with asyncio.timeout(5):
        async with Batcher(work, max_items=2, linger_s=600, concurrency=1) as batcher:
            submitted = [asyncio.create_task(batcher.submit(item)) for item in "abcde"]
            for _ in range(moments):
                await asyncio.sleep(0)
        results = await asyncio.gather(*submitted, return_exceptions=True)
    assert {type(result) for result in results} == {Interrupted}
