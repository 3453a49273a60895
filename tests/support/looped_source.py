"""A source with its loop, all that the loop uses being in memory. Called by the unit tests of the source's loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from embedding_operator.lifecycle.source_facts import Pending
from embedding_operator.reconciler.audit import Audit
from embedding_operator.reconciler.backfill import BackfillControl, BackfillParts
from embedding_operator.reconciler.backfill_workers import WorkersNotEnabled
from embedding_operator.reconciler.clearing import Clearing
from embedding_operator.reconciler.configuration import Configuration, Progress
from embedding_operator.reconciler.peeker import PeekedMarks, Peeker
from embedding_operator.reconciler.ready_source import ReadySource
from embedding_operator.reconciler.source_loop import SourceLoop
from embedding_operator.reconciler.source_setup import SourceSetup
from embedding_operator.reconciler.status_report import StatusReport
from embedding_operator.reconciler.sweep import Sweeper
from embedding_operator.reconciler.table_watch import TableWatch
from embedding_operator.reconciler.turn import LoopSettings
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.pipeline import RowPipeline, make_pipeline
from embedding_worker.rows.records import DueRow
from embedding_worker.rows.watch import BookkeepingWatch, Confirmed
from tests.support.fake_clock import settle
from tests.support.fake_database import FakeDatabase
from tests.support.fake_provider import FakeEmbedder, shared_embedder
from tests.support.fake_store import FakeStore
from tests.support.operator_parts import SOURCE, Parts, source

INTERVAL_S = 0.5


class HeldStore(FakeStore):
    """Holds each sweep until it is let go, once `hold` is set."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__(texts)
        self.hold = False
        self.let_go = asyncio.Event()

    async def sweep(self, *, leave_out: Any, limit: int, edits_only: bool = False) -> list[DueRow]:
        if self.hold:
            await self.let_go.wait()
        return await super().sweep(leave_out=leave_out, limit=limit, edits_only=edits_only)


class FakeWatch(BookkeepingWatch):
    """The book-keeping's record and the triggers, as the test wants them to be found."""

    def __init__(self) -> None:
        self.paused_since = None
        self.confirmed: Confirmed | None = Confirmed(None, source().spec.config().signature)
        self.error: Exception | None = None
        self.in_force = True
        self.confirmations = 0

    async def confirm_owner(self) -> Confirmed | None:
        self.confirmations += 1
        if self.error is not None:
            raise self.error
        return self.confirmed

    async def triggers_in_force(self) -> bool:
        return self.in_force


class FakeSetup(SourceSetup):
    """Accepts the source, unless it is to fail. Records how often it was asked."""

    def __init__(self, parts: Parts, store: FakeStore) -> None:
        self._parts = parts
        self._store = store
        self.failures: list[Exception] = []
        self.unprepared: list[Exception] = []
        """Why the configuration that was decided cannot run, once for each."""
        self.pending: Pending | None = None
        self.refused_change: tuple[str, str] | None = None
        self.asked = 0
        self.cause: Exception | None = None
        """What the catalog shows once a statement was refused."""
        self.explanation = ""
        """Is added to the message of each refusal."""
        self.watch = FakeWatch()
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens during each set-up."""
        self.pages = 0
        """So many pages are read during each set-up, and each takes a second."""
        self.pipeline: RowPipeline | None = None
        self.client = FakeEmbedder()
        self.embedder = shared_embedder(self.client, clock=parts.clock)
        self.leads = True
        self.marks = PeekedMarks("marks", parts.clock)
        """Of the last set-up. No peek sees them unless a test says so."""

    async def find_cause(self, source: EmbeddingSource, error: Exception) -> Exception:
        return error if self.cause is None else self.cause

    async def explain(self, source: EmbeddingSource, refused: tuple[str, str]) -> tuple[str, str]:
        return refused[0], refused[1] + self.explanation

    async def decide(self, source: EmbeddingSource, progress: Progress) -> Configuration:
        self.asked += 1
        self.meanwhile()
        for _ in range(self.pages):
            await self._parts.clock.sleep(1)
            progress()
        if self.failures:
            raise self.failures.pop(0)
        return Configuration(source.spec.config(), self.pending, self.refused_change)

    async def prepare(self, source: EmbeddingSource, chosen: Configuration) -> ReadySource:
        if self.unprepared:
            raise self.unprepared.pop(0)
        clock, store, fingerprint = self._parts.clock, self._store, chosen.config.fingerprint
        pipeline = make_pipeline(
            store,
            self.embedder,
            too_long=source.spec.model.too_long,
            limits=source.spec.limits_in_force,
            clock=clock,
            may_work=lambda: self.leads,
        )
        self.pipeline = pipeline
        server, jobs = self._parts.server, self._parts.jobs
        return ReadySource(
            store,
            Sweeper(
                source.name,
                fingerprint,
                store=store,
                server=server,
                jobs=jobs,
                note=pipeline.outcomes.add,
                hurry=pipeline.hurry,
                clock=clock,
            ),
            Clearing(store, clock=clock),
            Audit(store, rows_per_s=500, filled=await store.is_filled(), clock=clock),
            pipeline,
            TableWatch(self.watch, signature=chosen.config.signature, clock=clock),
            BackfillControl(
                source,
                chosen.config,
                BackfillParts(store, pipeline, self._parts.table, WorkersNotEnabled()),
                clock=clock,
            ),
            self.marks,
            Peeker(FakeDatabase(), clock=clock),
        )


class LoopedSource:
    """A source with these rows, and its loop."""

    def __init__(self, texts: dict[str, str] | None = None, *, shown: EmbeddingSource | None = None) -> None:
        self.parts = Parts()
        self.clock, self.server = self.parts.clock, self.parts.server
        self.store = HeldStore(texts or {})
        self.setup = FakeSetup(self.parts, self.store)
        self.shown = shown or source()
        self.server.put_source({"metadata": {"name": SOURCE}})
        self.parts.catalog.put(self.shown)
        report = StatusReport(
            self.shown, server=self.server, events=self.parts.events, table=self.parts.table, clock=self.clock
        )
        self.loop = SourceLoop(
            self.shown,
            self.setup,
            report=report,
            queues=self.parts.queues,
            window=self.parts.window,
            metrics=self.parts.metrics,
            settings=LoopSettings(INTERVAL_S, price_per_million_tokens=0.15, may_work=lambda: self.setup.leads),
            clock=self.clock,
        )

    def restarted(self, shown: EmbeddingSource | None = None) -> "LoopedSource":
        """The same rows and source, or its present state, in a new process, which finds the status that was written last."""
        after = LoopedSource(shown=(shown or self.shown).model_copy(update={"status": self.status}))
        after.server.stored_sources[SOURCE]["status"] = self.status
        after.store = after.setup._store = self.store
        return after

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The loop has done all that it does without time passing."""
        task = asyncio.create_task(self.loop.run())
        await settle()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.stored_sources[SOURCE].get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of this condition."""
        (found,) = [condition for condition in self.status["conditions"] if condition["type"] == kind]
        return found["status"], found["reason"], found["message"]

    def sweeps(self) -> int:
        return self.store.count("sweep")
