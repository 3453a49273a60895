"""Row store, provider, batcher and clock of one source, all in memory. Called by the unit tests of embedding.py."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from embedding_worker.batching.batcher import Batcher
from embedding_worker.embedding import RowEmbedder
from embedding_worker.errors import Postponed
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest, decider
from embedding_worker.outcome_log import OutcomeLog
from embedding_worker.pipeline import RowPipeline
from embedding_worker.rows.store import RowStore
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash
from tests.support.fake_clock import FakeClock, let_time_pass
from tests.support.fake_provider import Day, FakeEmbedder, gated_calls, shared_embedder
from tests.support.memory_store import MemoryStore


def request(row_id: str, text: str) -> RowRequest:
    return RowRequest(row_id, content_hash(text))


@dataclass
class EmbeddingSystem:
    """A source with these rows. Time moves only while outcomes are waited for."""

    store: MemoryStore
    provider: FakeEmbedder = field(default_factory=FakeEmbedder)
    too_long: TooLong = TooLong.TRUNCATE
    clock: FakeClock = field(default_factory=FakeClock)
    day: Day = field(default_factory=lambda: Day(1_000_000))

    @asynccontextmanager
    async def pipeline(self, *, max_items: int = 64) -> AsyncIterator[RowPipeline]:
        embedder = shared_embedder(self.provider, clock=self.clock)
        calls, gate = gated_calls(embedder, clock=self.clock, counters=self.day.counters)
        decide = decider(max_text_bytes=calls.max_text_bytes, too_long=self.too_long)
        rows = RowEmbedder(cast(RowStore, self.store), calls, decide=decide, clock=self.clock)
        batcher = Batcher(rows.embed_batch, max_items=max_items, clock=self.clock)
        outcomes = OutcomeLog(self.store.record_outcomes, clock=self.clock)
        pipeline = RowPipeline(calls, gate, rows, batcher, outcomes)
        async with pipeline.running(probes=True):
            yield pipeline

    @asynccontextmanager
    async def batcher(self, *, max_items: int = 64) -> AsyncIterator[Batcher[RowRequest, RowOutcome]]:
        async with self.pipeline(max_items=max_items) as pipeline:
            yield pipeline.batcher

    def requests(self) -> list[RowRequest]:
        """One for each row, with the text that it has now."""
        return [request(row_id, text) for row_id, text in self.store.texts.items()]

    async def outcomes(self, *requests: RowRequest) -> list[RowOutcome]:
        """What becomes of the requests (without any: of all rows) as one batch, however long it takes."""
        submitted = requests or tuple(self.requests())
        async with self.pipeline(max_items=len(submitted)) as pipeline:
            return list(await let_time_pass(self.clock, _gather(pipeline, submitted)))

    async def kinds(self, *requests: RowRequest) -> list[OutcomeKind]:
        return [outcome.kind for outcome in await self.outcomes(*requests)]


async def settled(pipeline: RowPipeline, request: RowRequest) -> RowOutcome:
    """What becomes of a row that is submitted again when its provider may be called, as a job's handler does it."""
    while True:
        try:
            return await pipeline.batcher.submit(request)
        except Postponed as exc:
            await pipeline.gate.wait_until_open(asyncio.Event(), pause_s=exc.pause_s)


async def _gather(pipeline: RowPipeline, requests: Sequence[RowRequest]) -> list[RowOutcome]:
    return await asyncio.gather(*(settled(pipeline, request) for request in requests))


def system_of(count: int) -> EmbeddingSystem:
    """A source of so many rows: '0' with the text 'name 0', and so on."""
    return EmbeddingSystem(MemoryStore({str(n): f"name {n}" for n in range(count)}))
