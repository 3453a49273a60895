"""The backfill of one source as far as it runs in this process: its engine, and what it has done. Called by backfill.py."""

import asyncio

import structlog

from embedding_worker.backfill import Backfill, Progress
from embedding_worker.clock import Clock
from embedding_worker.pipeline import RowPipeline
from embedding_worker.rows.backfills import WorkerReport
from embedding_worker.rows.backlog import Share
from embedding_worker.rows.store import RowStore

log = structlog.get_logger(__name__)


class LocalBackfill:
    def __init__(self, store: RowStore, pipeline: RowPipeline, *, source: str, concurrency: int, clock: Clock) -> None:
        self._store = store
        self._pipeline = pipeline
        self._source = source
        self._concurrency = concurrency
        self._clock = clock
        self._engine: Backfill | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended_engines = Progress()
        self._reported = Progress()

    def raise_failure(self) -> None:
        """Raises what has ended the engine, if that was an error."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    def start(self) -> None:
        """Embed rows, if that is not done already."""
        if self._task is not None and not self._task.done():
            return
        self._ended_engines = self._progress
        self._engine = Backfill(
            self._store, self._pipeline, share=Share(), concurrency=self._concurrency, clock=self._clock
        )
        self._task = asyncio.create_task(self._engine.run(), name=f"backfill of source {self._source}")

    async def stop(self) -> None:
        """Cancel the calls in flight, and return when all has ended, also where the caller was cancelled before."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                log.error("a task has failed", task=self._task.get_name(), exc_info=error)
        self._ended_engines, self._task, self._engine = self._progress, None, None

    def drain(self) -> None:
        """Begin no other call: the process is about to end."""
        if self._engine is not None:
            self._engine.drain()

    async def wait_until_drained(self) -> None:
        """Return when the calls in flight are written."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def forget(self) -> None:
        """Another backfill is on record: what was done is not reported to it."""
        self._ended_engines = self._reported = Progress()

    @property
    def _progress(self) -> Progress:
        before, now = self._ended_engines, self._engine.progress if self._engine is not None else Progress()
        return Progress(before.done + now.done, before.failed + now.failed)

    def unreported(self) -> WorkerReport | None:
        """What was done since the last report; None if there is nothing to tell. While it runs, also that it does."""
        now, before = self._progress, self._reported
        if self._engine is None and now == before:
            return None
        return WorkerReport(0, now.done - before.done, now.failed - before.failed)

    def record_reported(self, report: WorkerReport) -> None:
        before = self._reported
        self._reported = Progress(before.done + report.done, before.failed + report.failed)
