"""One of several processes that embed the backlog of a source: works on its share, and reports what it has done.

Run by `embedding-operator backfill-worker`. It knows PostgreSQL and the provider only. It creates nothing in the database, and
ends by itself when nothing is left of its share, or when the backfill has ended or was replaced. While the source is
suspended, it begins no call, and waits.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from embedding_worker.backfill import Backfill, Progress
from embedding_worker.clock import Clock
from embedding_worker.errors import DatabaseUnavailable, EmbeddingError, RowsLocked, SourceRefused, TableRefused
from embedding_worker.patience import until_answered
from embedding_worker.pipeline import RowPipeline, make_pipeline
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.backfills import BackfillRecords, BackfillRun, WorkerReport
from embedding_worker.rows.backlog import Share
from embedding_worker.rows.database import Database
from embedding_worker.rows.store import RowStore

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
"""How often it looks whether the backfill goes on or is paused, and whether the table is refused."""
REPORT_EVERY_LOOKS = 2
REFUSED_PAUSE_S = 5.0
"""Before a table that was refused is tried again."""
SUSPENDED = "the source is suspended: set spec.suspend to false to embed its rows"
DRAIN_S = 16.5
"""One call to a provider (15 s) and the write of its vectors."""


class BackfillWorker:
    def __init__(
        self, database: Database, providers: ProviderRegistry, run: BackfillRun, share: Share, *, clock: Clock
    ) -> None:
        self._database = database
        self._providers = providers
        self._run = run
        self._is_paused = run.paused
        self._share = share
        self._clock = clock
        self._records = BackfillRecords(database)
        self._ending = asyncio.Event()
        self._engine: Backfill | None = None
        self._pipeline: RowPipeline | None = None
        self._refusal = ""
        """Why the rows cannot be embedded, in a sentence; empty if nothing is known."""
        self._ended_engines = Progress()
        self._reported = Progress()
        self.is_over = False
        """Whether nothing is left to do: of the share, or because the backfill has ended or was replaced."""

    @property
    def progress(self) -> Progress:
        """What this process has done."""
        before, now = self._ended_engines, self._engine.progress if self._engine is not None else Progress()
        return Progress(before.done + now.done, before.failed + now.failed)

    async def run(self, stop: asyncio.Event) -> None:
        """Return when it is over, or when `stop` is set and the calls in flight are written. Raises unexpected errors."""
        work = asyncio.create_task(self._work(), name="share of a backfill")
        look = asyncio.create_task(self._look(), name="look at the backfill")
        stopping = asyncio.create_task(stop.wait(), name="stopping")
        try:
            await asyncio.wait({work, look, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._drain()
            await asyncio.wait({work}, timeout=DRAIN_S)
            if look.done():
                look.result()
            if work.done():
                self.is_over |= work.result()
        finally:
            for task in (work, look, stopping):
                task.cancel()
            await asyncio.gather(work, look, stopping, return_exceptions=True)
            await self._report()

    def _drain(self) -> None:
        self._ending.set()
        if self._engine is not None:
            self._engine.drain()

    async def _work(self) -> bool:
        """Embed the rows of the share. Returns whether nothing is left of it; False if it was to end before."""
        refusal: TableRefused | None = None
        while not self._ending.is_set():
            try:
                async with self._set_up(refusal) as (store, pipeline, engine):
                    self._refusal, refusal = "", None
                    return await self._embed(store, pipeline, engine)
            except (SourceRefused, DatabaseUnavailable, RowsLocked) as exc:
                refusal = exc if isinstance(exc, TableRefused) else refusal
                self._record_refusal(exc)
            await self._clock.wait_for(self._ending, within_s=REFUSED_PAUSE_S)
        return False

    @asynccontextmanager
    async def _set_up(self, refusal: TableRefused | None) -> AsyncIterator[tuple[RowStore, RowPipeline, Backfill]]:
        settings, clock = self._run.settings, self._clock
        model = settings.config.model
        embedder = self._providers.embedder(model, source=self._run.source)
        await embedder.prepare()
        store = await RowStore.inspect(self._database, settings.config)
        pipeline = make_pipeline(
            store,
            embedder,
            too_long=model.too_long,
            limits=settings.limits,
            clock=clock,
            may_work=lambda: not self._is_paused,
            source=self._run.source,
        )
        if refusal is not None:
            await pipeline.rows.resume_after(refusal)
        engine = Backfill(store, pipeline, share=self._share, concurrency=settings.concurrency, clock=clock)
        async with pipeline.running(probes=True):
            self._engine, self._pipeline = engine, pipeline
            try:
                yield store, pipeline, engine
            finally:
                self._ended_engines, self._engine, self._pipeline = self.progress, None, None

    async def _embed(self, store: RowStore, pipeline: RowPipeline, engine: Backfill) -> bool:
        """Work until nothing is left of the share, also of what the first audit still adds to it."""
        while not self._ending.is_set():
            filled = await until_answered(
                "look whether the first audit is complete", store.is_filled, clock=self._clock
            )
            await self._unless_refused(pipeline, engine)
            if filled and not self._ending.is_set():
                return True
            await self._clock.wait_for(self._ending, within_s=LOOK_EVERY_S)
        return False

    async def _unless_refused(self, pipeline: RowPipeline, engine: Backfill) -> None:
        """Run the engine. Raises TableRefused, on which the engine waits."""
        running = asyncio.create_task(engine.run(), name="backfill")
        try:
            while not running.done():
                if pipeline.rows.refusal is not None:
                    raise pipeline.rows.refusal
                await asyncio.wait({running}, timeout=LOOK_EVERY_S)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        running.result()

    def _record_refusal(self, error: EmbeddingError) -> None:
        if str(error) != self._refusal:
            log.warning("rows cannot be embedded", error=type(error).__name__, message=str(error))
        self._refusal = str(error)

    async def _look(self) -> None:
        """Report every two seconds. Returns when the backfill has ended or was replaced."""
        while True:
            for _ in range(REPORT_EVERY_LOOKS):
                await self._clock.sleep(LOOK_EVERY_S)
                if await self._has_ended():
                    log.info("the backfill has ended, or was replaced")
                    self.is_over = True
                    return
            await self._report()

    async def _has_ended(self) -> bool:
        try:
            present = await self._records.present(self._run.bookkeeping)
        except (DatabaseUnavailable, RowsLocked):
            return False
        self._record_paused(present is not None and present.paused)
        return present is None or present.run != self._run.run or not present.is_active

    def _record_paused(self, paused: bool) -> None:
        if paused != self._is_paused:
            log.info("the source is suspended" if paused else "the source is no longer suspended")
        self._is_paused = paused

    async def _report(self) -> None:
        """Record what was done since the last report. While the database is away, it stays unreported."""
        now = self.progress
        done, failed = now.done - self._reported.done, now.failed - self._reported.failed
        report = WorkerReport(self._share.index, done, failed, self.problem, self.is_over)
        if await self._records.report(self._run, report):
            self._reported = now

    @property
    def problem(self) -> str:
        """What prevents it from embedding rows, in a sentence; empty if nothing does."""
        if self._is_paused:
            return SUSPENDED
        of_calls = self._pipeline.gate.problem if self._pipeline is not None else None
        return self._refusal or (of_calls.message if of_calls is not None else "")
