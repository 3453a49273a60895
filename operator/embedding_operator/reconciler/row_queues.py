"""Where job handlers submit their rows: one pipeline for each source that is ready. Filled by the sources' loops.

A handler whose source is not ready yet waits here. Nothing here knows why a source is not ready.
"""

import asyncio

import structlog

from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_worker.clock import Clock
from embedding_worker.errors import Interrupted, Postponed
from embedding_worker.outcome import RowOutcome, RowRequest
from embedding_worker.pipeline import RowPipeline
from embedding_worker.rows.records import LastOutcome

log = structlog.get_logger(__name__)

UNEXPECTED_PAUSE_S = 10.0
SOURCE_COMES_WITHIN_S = 90.0
"""How long a job waits for its source to exist: jobs may be restored first. Housekeeping deletes them sooner."""


class ProviderNotCallable(Exception):
    """The row has no outcome yet: its source's provider may not be called now, or it is not known why its call failed."""

    def __init__(self, pipeline: RowPipeline, *, pause_s: float) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._pause_s = pause_s

    async def wait_until_callable(self, woken: asyncio.Event, *, urgent: bool) -> None:
        """Return when the row is to be submitted again, when the source's pipeline has ended, or when `woken` is set."""
        await self._pipeline.gate.wait_until_open(woken, pause_s=self._pause_s, urgent=urgent)


class RowQueues:
    def __init__(self, catalog: SourceCatalog, *, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._pipelines: dict[str, RowPipeline] = {}
        self._change = asyncio.Event()
        self._draining = False

    def open(self, source: str, pipeline: RowPipeline) -> None:
        """Rows of this source are accepted from now on."""
        self._pipelines[source] = pipeline
        self.notify()

    def close(self, source: str) -> None:
        """Rows of this source wait from now on."""
        self._pipelines.pop(source, None)

    def drain(self) -> None:
        """Release the handlers whose row is in no batch yet, or whose source is not set up: the process is about to end."""
        self._draining = True
        for pipeline in self._pipelines.values():
            pipeline.batcher.drain()
        self.notify()

    def note(self, source: str, row_id: str, outcome: LastOutcome) -> None:
        """Have this recorded with the last outcomes of the row. Forgotten if the source is not ready."""
        if (pipeline := self._pipelines.get(source)) is not None:
            pipeline.outcomes.add(row_id, outcome)

    async def submit(self, source: str, request: RowRequest, *, urgent: bool) -> RowOutcome | None:
        """Bring a row up to date, as soon as its source is ready.

        Returns None where the source does not exist, or the process ends before a call is begun for the row. Raises
        ProviderNotCallable.
        """
        while (pipeline := await self._pipeline(source)) is not None:
            try:
                return await pipeline.batcher.submit(request, urgent=urgent)
            except Interrupted:
                if self._draining:
                    return None
            except Postponed as exc:
                raise ProviderNotCallable(pipeline, pause_s=exc.pause_s) from exc
            except Exception:  # a defect of ours: the row is tried again, since kopf keeps no retries for us
                log.exception("row not embedded because of an unexpected error", source=source, business=request.id)
                await self._clock.sleep(UNEXPECTED_PAUSE_S)
        return None

    async def _pipeline(self, source: str) -> RowPipeline | None:
        unknown_until = self._clock.monotonic() + SOURCE_COMES_WITHIN_S
        while source not in self._pipelines and not self._draining:
            change = self._change
            left_s = unknown_until - self._clock.monotonic()
            if source not in self._catalog and left_s <= 0:
                return None
            await self._clock.wait_for(change, within_s=left_s if left_s > 0 else SOURCE_COMES_WITHIN_S)
        return self._pipelines.get(source)

    def notify(self) -> None:
        """Have waiting handlers look again: also where the catalog has changed, and the source of one may be gone."""
        self._change.set()
        self._change = asyncio.Event()
