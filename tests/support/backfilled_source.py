"""A source whose rows are embedded by a backfill: a real row store, a provider that a test controls, and the pipeline between.

Called by the tests of the backfill.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from embedding_worker.backfill import Backfill
from embedding_worker.clock import Clock, SystemClock
from embedding_worker.limits import DEFAULT_LIMITS, Limits
from embedding_worker.pipeline import RowPipeline, make_pipeline
from embedding_worker.rows.backlog import Share
from embedding_worker.source import TooLong
from tests.support.fake_provider import FakeEmbedder, shared_embedder
from tests.support.kept_rows import Keeper

ALL = Share()


@dataclass
class BackfilledSource:
    keeper: Keeper
    provider: FakeEmbedder = field(default_factory=lambda: FakeEmbedder(max_texts=10))
    clock: Clock = field(default_factory=SystemClock)
    limits: Limits = DEFAULT_LIMITS

    @asynccontextmanager
    async def running(
        self, share: Share = ALL, *, concurrency: int = 2
    ) -> AsyncIterator[tuple[Backfill, "asyncio.Task[None]"]]:
        """A backfill of this share, and the task in which it runs."""
        async with self.pipeline() as pipeline:
            backfill = Backfill(self.keeper.store, pipeline, share=share, concurrency=concurrency, clock=self.clock)
            task = asyncio.create_task(backfill.run())
            try:
                yield backfill, task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[RowPipeline]:
        pipeline = make_pipeline(
            self.keeper.store,
            shared_embedder(self.provider, clock=self.clock),
            too_long=TooLong.TRUNCATE,
            limits=self.limits,
            clock=self.clock,
        )
        async with pipeline.running(probes=True):
            yield pipeline

    async def run(self, share: Share = ALL) -> tuple[int, int]:
        """Run a backfill to its end. Returns how many rows are done, and how many were handed over."""
        async with self.running(share) as (backfill, task):
            async with asyncio.timeout(60):
                await task
            return backfill.progress.done, backfill.progress.failed

    @property
    def sent(self) -> list[str]:
        """The texts of all calls."""
        return [text for call in self.provider.calls for text in call]
