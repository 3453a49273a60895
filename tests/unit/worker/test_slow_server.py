"""Calls to a server that is too slow for large ones, and goes on computing calls that nobody waits for any more."""

import asyncio
from collections.abc import Sequence

import pytest

from embedding_worker.batching.bisect import FailedAlone, Unattributed
from embedding_worker.errors import ProviderUnavailable
from embedding_worker.providers.batch_calls import BatchCalls
from embedding_worker.providers.canary import ANSWERED_WITHIN_S, CANARY
from embedding_worker.providers.embedder import Vector
from tests.support.fake_clock import FakeClock, let_time_pass
from tests.support.fake_provider import FakeEmbedder, gated_calls, shared_embedder
from tests.support.kept_rows import fake_vector

TEXTS = [f"text {n}" for n in range(335)]
BATCH = 256
AT_ONCE = 2
"""Batches of a source that are worked on at the same time."""
DEADLINE_S = 30.0
MOST_SENT = 6 * len(TEXTS)
WITHIN_S = 1_800.0


class OneLockServer(FakeEmbedder):
    """Computes one call after another, in so many seconds a text."""

    def __init__(self, clock: FakeClock, *, text_s: float, first_texts: int = BATCH) -> None:
        super().__init__(max_texts=BATCH)
        self.first_texts = first_texts
        self._clock = clock
        self._text_s = text_s
        self._busy_until = 0.0

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.calls.append(list(texts))
        now = self._clock.monotonic()
        self._busy_until = max(self._busy_until, now) + len(texts) * self._text_s
        waits_s = self._busy_until - now
        within_s = ANSWERED_WITHIN_S if list(texts) == [CANARY] else DEADLINE_S
        await self._clock.sleep(min(waits_s, within_s))
        if waits_s > within_s:
            raise ProviderUnavailable(f"no answer within {within_s:g} s", timed_out=True)
        return [fake_vector(text) for text in texts]


class Backlog:
    """The texts of a source, sent batch by batch until each has its vector; meanwhile probes are sent as they are due."""

    def __init__(self, server: OneLockServer, clock: FakeClock) -> None:
        self._shared = shared_embedder(server, clock=clock)
        self.calls, _ = gated_calls(self._shared, clock=clock)
        self._clock = clock
        self.due = dict.fromkeys(TEXTS)

    async def embed_all(self) -> None:
        while self.due:
            batches = [list(self.due)[:BATCH], list(self.due)[BATCH:]][:AT_ONCE]
            await asyncio.gather(*(self._embed(batch) for batch in batches if batch))
            await self._clock.sleep(0.5)
            if self._shared.begin_probe():
                await self._shared.probe()

    async def _embed(self, texts: Sequence[str]) -> None:
        async for outcomes in BatchCalls(texts, self.calls, jitter=lambda: 0.5).run():
            for text, outcome in outcomes:
                assert not isinstance(outcome, FailedAlone)
                if not isinstance(outcome, Unattributed):
                    del self.due[text]


@pytest.mark.parametrize("first_texts", [32, BATCH])
@pytest.mark.parametrize("text_s", [0.13, 0.5])
async def test_each_row_gets_its_vector_from_a_server_that_computes_abandoned_calls(
    text_s: float, first_texts: int
) -> None:
    clock = FakeClock()
    server = OneLockServer(clock, text_s=text_s, first_texts=first_texts)
    backlog = Backlog(server, clock)
    await let_time_pass(clock, backlog.embed_all(), within_s=WITHIN_S)
    assert sum(server.sizes) <= MOST_SENT
