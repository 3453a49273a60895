"""The sources of this namespace, each with its loop: begun, changed and ended as the API server shows them."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from embedding_operator.api_server import ApiServerError
from embedding_operator.lifecycle.retry_policy import RetryPolicy
from embedding_operator.reconciler.shared import Shared
from embedding_operator.reconciler.source_loop import SourceLoop
from embedding_operator.resources.embedding_source import (
    RECONCILE_ANNOTATION,
    EmbeddingSource,
    older_on_the_same_column,
)
from embedding_worker.batching.batcher import Batcher
from embedding_worker.errors import Interrupted
from embedding_worker.outcome import RowOutcome, RowRequest

log = structlog.get_logger(__name__)

UNEXPECTED_PAUSE_S = 10.0
SOURCE_COMES_WITHIN_S = 90.0
"""How long a job waits for its source to be there: a restored job may come first. Housekeeping deletes it sooner."""


@dataclass
class Running:
    source: EmbeddingSource
    loop: SourceLoop
    task: asyncio.Task[None]


class Sources:
    """What runs. Changed only from the event loop."""

    def __init__(self, shared: Shared, make_loop: Callable[[EmbeddingSource], SourceLoop]) -> None:
        self._shared = shared
        self._make_loop = make_loop
        self._resting = False
        self._running: dict[str, Running] = {}
        self._news = asyncio.Event()
        self._changing = asyncio.Lock()

    def names(self) -> set[str]:
        return set(self._running)

    def loops(self) -> list[tuple[str, SourceLoop]]:
        """The loops that run, by their sources' names."""
        return [(name, running.loop) for name, running in self._running.items()]

    async def seen(self, source: EmbeddingSource) -> None:
        """The API server shows this source: begin it, or begin it anew where its spec has changed."""
        async with self._changing:
            running = self._running.get(source.name)
            if running is not None and running.source.metadata.uid == source.metadata.uid:
                running.loop.asked_to_reconcile(source.metadata.annotations.get(RECONCILE_ANNOTATION))
                if running.source.metadata.generation >= source.metadata.generation:
                    return
                log.info("source changed", source=source.name)
            # Its place is kept until the new loop has it: handlers that are put down meanwhile wait there.
            await self._end(running)
            loop = self._make_loop(source)
            loop.asked_to_reconcile(source.metadata.annotations.get(RECONCILE_ANNOTATION))
            task = asyncio.create_task(loop.run(), name=f"source {source.name}")
            self._running[source.name] = Running(source, loop, task)
        self.tell()

    def older_on_the_same_column(self, source: EmbeddingSource) -> str | None:
        return older_on_the_same_column(source, (running.source for running in self._running.values()))

    async def rotate(self, variable: str, value: str) -> None:
        """Use this value of a provider's setting from now on. Raises SourceRefused where it can't be used."""
        await self._shared.registry.rotate(variable, value)
        for running in self._running.values():
            running.loop.provider_rotated()

    async def gone(self, name: str, *, uid: str | None = None) -> None:
        """The source was deleted: its work stops and its jobs go. Vectors and book-keeping stay.

        `uid` is that of the one that was deleted, where it is known: another of its name may be there already.
        """
        async with self._changing:
            running = self._running.get(name)
            if running is not None and uid is not None and running.source.metadata.uid != uid:
                return
            if running is not None:
                log.info("source deleted", source=name)
                del self._running[name]
            await self._end(running)
            self._shared.forget(name)
            try:
                await self._shared.server.delete_jobs(fields=f"spec.sourceRef.name={name}")
            except ApiServerError as exc:
                log.warning("jobs of a deleted source stay for now", source=name, message=str(exc))
        self.tell()

    async def _end(self, running: Running | None) -> None:
        if running is not None:
            running.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running.task

    def job_left(self, name: str) -> None:
        """A job of this source is not open any more: there may be room for the next ones."""
        if name in self._running:
            self._running[name].loop.job_left()

    def retry_policy(self, name: str) -> RetryPolicy:
        running = self._running.get(name)
        return running.source.spec.retry.policy() if running is not None else RetryPolicy()

    async def freshen(self, source: str, request: RowRequest, *, urgent: bool) -> RowOutcome | None:
        """Bring a row to its source's batcher, as soon as there is one.

        None where the source is gone, or the process ends first.
        """
        while True:
            batcher = await self._batcher(source)
            if batcher is None:
                return None
            try:
                return await batcher.submit(request, urgent=urgent)
            except Interrupted:
                continue
            except Exception:
                # A fault of ours. kopf would try again by what it keeps in the object, and it keeps nothing there.
                log.exception("row not freshened by an unexpected error", source=source, business=request.id)
                await asyncio.sleep(UNEXPECTED_PAUSE_S)

    async def _batcher(self, source: str) -> Batcher[RowRequest, RowOutcome] | None:
        """Wait for the source's batcher; for the source itself, which may come after its jobs, a while."""
        unknown_until = time.monotonic() + SOURCE_COMES_WITHIN_S
        while not self._resting:
            running = self._running.get(source)
            if running is not None and running.loop.batcher is not None:
                return running.loop.batcher
            if running is None and time.monotonic() > unknown_until:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SOURCE_COMES_WITHIN_S):
                    await self._news.wait()
        running = self._running.get(source)
        return running.loop.batcher if running is not None else None

    def tell(self) -> None:
        """Something has changed that the handlers may wait for: a source went, or has its batcher now."""
        self._news.set()
        self._news = asyncio.Event()

    def rest(self) -> None:
        """Make no new job. What the handlers have in hand goes on; what only waits for its source is put down."""
        self._resting = True
        for running in self._running.values():
            running.loop.rest()
        self.tell()

    async def end(self) -> None:
        """End every loop: nothing new is begun after this."""
        async with self._changing:
            while self._running:
                _, running = self._running.popitem()
                await self._end(running)
