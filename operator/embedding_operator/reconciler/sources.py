"""Starts, replaces and ends the loop of each source of this namespace, when the API server shows that the source has changed.

Each source has one task that does these things one after the other, so no locks are needed. Called by the watch of sources
and by housekeeping; both may report the same change, in any order.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from embedding_operator.api_errors import ApiServerError
from embedding_operator.api_server import ApiServer
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.deleted_sources import DeletedSources
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.reconciler.row_queues import RowQueues
from embedding_operator.reconciler.source_loop import SourceLoop
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

MakeLoop = Callable[[EmbeddingSource], SourceLoop]


@dataclass
class Kept:
    """The task and the loop of one source that exists, or whose jobs are being deleted."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    loop: SourceLoop | None = None
    task: asyncio.Task[None] | None = None
    deleted: bool = False
    """Its jobs are to be removed before another loop begins, also where it was created again meanwhile."""
    gone: set[str] = field(default_factory=set)
    """The uids of deleted sources of this name whose book-keeping is to be released before another loop begins."""


class Sources:
    def __init__(
        self,
        make_loop: MakeLoop,
        *,
        catalog: SourceCatalog,
        queues: RowQueues,
        jobs: JobRegisters,
        metrics: Metrics,
        server: ApiServer,
        deleted: DeletedSources,
    ) -> None:
        self._make_loop = make_loop
        self._catalog = catalog
        self._queues = queues
        self._table, self._window = jobs.table, jobs.window
        self._metrics = metrics
        self._server = server
        self._deleted = deleted
        self._kept: dict[str, Kept] = {}
        self._draining = False
        self._ended = False

    def loops(self) -> list[tuple[str, SourceLoop]]:
        """The loops that are running, with the names of their sources."""
        return [(name, kept.loop) for name, kept in self._kept.items() if kept.loop is not None]

    def observe(self, source: EmbeddingSource, *, known_before: EmbeddingSource | None = None) -> None:
        """The API server shows this source: its loop is started, or is replaced if the spec has changed.

        A version that is older than the known one is ignored, unless the known one is `known_before`. A source that is being
        deleted counts as deleted: others may keep it for long by their finalizers.
        """
        known = self._catalog.get(source.name)
        if known is not None and known is not known_before and known.metadata.version > source.metadata.version:
            return
        if source.metadata.is_being_deleted:
            self.observe_deleted(source.name, uid=source.metadata.uid)
            return
        self._catalog.put(source)
        replaced = known is not None and known.metadata.uid != source.metadata.uid
        self._change(source.name, gone=known.metadata.uid if known is not None and replaced else "")

    def observe_listed(
        self, source: EmbeddingSource, *, known_before: EmbeddingSource | None, listed_at: float
    ) -> None:
        """A list shows this source, requested at `listed_at` (monotonic), when `known_before` was known of it.

        If nothing else was observed since, the list is right although its version may be older: a backup of the API server may
        have been restored. A status that somebody else has changed is written again.
        """
        self.observe(source, known_before=known_before)
        kept = self._kept.get(source.name)
        if kept is not None and kept.loop is not None:
            kept.loop.compare_status(source, listed_at=listed_at)

    def observe_deleted(self, name: str, *, uid: str | None = None) -> None:
        """The source was deleted: its loop ends and its jobs are deleted. Vectors and book-keeping stay.

        `uid` is that of the deleted source if it is known, because another source of this name may already exist.
        """
        known = self._catalog.get(name)
        if known is not None and uid not in (None, known.metadata.uid):
            return
        self._catalog.remove(name)
        self._change(name, deleted=True, gone=uid or (known.metadata.uid if known is not None else ""))

    def job_done(self, source: str) -> None:
        """A job of this source no longer counts towards the window: there may be room for other jobs."""
        self._window.record_done(source)
        kept = self._kept.get(source)
        if kept is not None and kept.loop is not None and self._window.has_room():
            kept.loop.wake()

    def room_gained(self) -> None:
        """Finished jobs were deleted: sources with due rows may create more jobs."""
        for name, loop in self.loops():
            if self._window.due(name):
                loop.wake()

    def retry_all(self) -> None:
        """Begin the next turn of each source now: a secret has changed, or the API server has returned from an outage."""
        for _, loop in self.loops():
            loop.retry()

    def drain(self) -> None:
        """Create no more jobs. Rows in flight are finished; handlers that wait for their source to be set up return."""
        self._draining = True
        for _, loop in self.loops():
            loop.drain()
        self._queues.drain()

    async def wait_until_drained(self) -> None:
        """Return when the calls of backfills that are in flight are written."""
        await asyncio.gather(*(loop.wait_until_drained() for _, loop in self.loops()))

    async def end(self) -> None:
        """End every loop. No other loop is started afterwards."""
        self._ended = True
        kept, self._kept = list(self._kept.values()), {}
        for one in kept:
            if one.task is not None:
                await cancel_and_wait(one.task)

    def _change(self, name: str, *, deleted: bool = False, gone: str = "") -> None:
        if self._ended:
            return
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = Kept()
            kept.task = asyncio.create_task(self._keep(name, kept), name=f"source {name}")
        kept.deleted |= deleted
        kept.gone |= {gone} - {""}
        kept.changed.set()
        self._queues.notify()

    async def _keep(self, name: str, kept: Kept) -> None:
        """Run loops for the source until it is deleted, then delete its jobs and forget what is known of it."""
        while True:
            kept.changed.clear()
            while kept.gone:
                await self._deleted.release(name, kept.gone.pop())
            if kept.deleted:
                kept.deleted = False
                await self._remove(name)
            elif (source := self._catalog.get(name)) is not None:
                await self._run_loop(source, kept)
            else:
                self._kept.pop(name, None)
                return

    async def _run_loop(self, source: EmbeddingSource, kept: Kept) -> None:
        """Run one loop until the source's spec changes or the source is deleted."""
        kept.loop = loop = self._make_loop(source)
        if self._draining:
            loop.drain()
        loop.request_reconcile(source.requested_reconcile)
        running = asyncio.create_task(loop.run(), name=f"loop of source {source.name}")
        try:
            while (present := self._catalog.get(source.name)) is not None and _same_spec(present, source):
                loop.request_reconcile(present.requested_reconcile)
                await kept.changed.wait()
                kept.changed.clear()
        finally:
            kept.loop = None
            await cancel_and_wait(running)
        log.info("source changed" if source.name in self._catalog else "source deleted", source=source.name)

    async def _remove(self, name: str) -> None:
        self._table.forget_source(name)
        self._window.forget(name)
        self._metrics.forget(name)
        try:
            await self._server.delete_jobs(fields=f"spec.sourceRef.name={name}")
        except (
            ApiServerError
        ) as exc:  # housekeeping finds them when it next lists all jobs, and this method is called again
            log.warning("jobs of a deleted source not deleted yet", source=name, message=str(exc))


def _same_spec(one: EmbeddingSource, other: EmbeddingSource) -> bool:
    return (one.metadata.uid, one.metadata.generation) == (other.metadata.uid, other.metadata.generation)
