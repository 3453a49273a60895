"""One source, from accepted to kept fresh: set up, then swept and audited for ever. A task of its own, so that what goes
wrong with one source never stops another.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from embedding_operator.api_server import ApiServer, ApiServerUnavailable, Gone, RequestRefused
from embedding_operator.reconciler.audit import Audit
from embedding_operator.reconciler.expiry import Cohorts
from embedding_operator.reconciler.open_jobs import OpenJobs
from embedding_operator.reconciler.sweep import Sweeper
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.settings import Settings
from embedding_operator.source_state import SourceFacts, status, worth_writing
from embedding_worker.batcher import Batcher
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused
from embedding_worker.freshen import Freshener, RowOutcome, RowRequest
from embedding_worker.providers import make_embedder
from embedding_worker.rows.database import Database
from embedding_worker.rows.store import RowStore

log = structlog.get_logger(__name__)

REFUSED_PAUSE_S = 30.0
"""A refused source is looked at again so often: the mend may be in the database, where nothing tells us."""
AWAY_PAUSE_S = 2.0
COUNT_EVERY_S = 0.5


class SourceLoop:
    """Runs one source in one configuration; a change of its spec ends it, and another one begins."""

    def __init__(
        self,
        source: EmbeddingSource,
        *,
        database: Database,
        server: ApiServer,
        jobs: OpenJobs,
        cohorts: Cohorts,
        settings: Settings,
        due_by_source: dict[str, int],
        tell: Callable[[], None],
    ) -> None:
        self._source = source
        self._config = source.spec.config()
        self._database = database
        self._server = server
        self._jobs = jobs
        self._cohorts = cohorts
        self._settings = settings
        self._due_by_source = due_by_source
        self._tell = tell
        self._facts = SourceFacts(source.metadata.generation, self._config.fingerprint, suspended=source.spec.suspend)
        self._written: dict[str, Any] = {}
        self._before: dict[str, Any] = source.status
        self._written_at = 0.0
        self._counted_at = 0.0
        self._wake = asyncio.Event()
        self._resting = False
        self.batcher: Batcher[RowRequest, RowOutcome] | None = None
        """Where the job handlers bring their rows, once the source is accepted."""

    def job_left(self) -> None:
        """A job has settled. Look again once half of the window is free: a look for each would cost more than it finds."""
        if len(self._jobs) <= self._settings.max_open_jobs // 2:
            self._wake.set()

    def rest(self) -> None:
        """Make no new job from now on: the process is about to end."""
        self._resting = True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._set_up_and_sweep()
            except SourceRefused as exc:
                log.error("source stalled", source=self._source.name, reason=exc.reason, message=exc.message)
                self._facts = replace(self._facts, set_up=False, refused=(exc.reason, exc.message))
                await self._pause(REFUSED_PAUSE_S)
            except (DatabaseUnavailable, RowsLocked) as exc:
                self._facts = replace(self._facts, refused=None, waiting_for=f"the database: {exc}")
                await self._pause(AWAY_PAUSE_S)
            except Exception as exc:  # a fault of ours in one source is to be seen, and stops no other source
                log.exception("source stalled by an unexpected error", source=self._source.name)
                message = f"an unexpected error, {type(exc).__name__}: see the operator's log, and report it"
                self._facts = replace(self._facts, set_up=False, refused=("InternalError", message))
                await self._pause(REFUSED_PAUSE_S)

    async def _set_up_and_sweep(self) -> None:
        embedder = make_embedder(self._config.model)
        await self._write_status()
        store = await RowStore.prepare(self._database, self._config)
        async with AsyncExitStack() as stack:
            freshener = Freshener(store, embedder, too_long=self._config.model.too_long)
            batcher = await stack.enter_async_context(Batcher(freshener.freshen, max_items=embedder.max_texts))
            stack.callback(self._offer, None)
            self._offer(batcher)
            audit = Audit(store, rows_per_s=self._settings.audit_rows_per_s, filled=await store.is_filled())
            self._facts = replace(self._facts, set_up=True, refused=None, filled=audit.filled)
            log.info("source ready", source=self._source.name, table=str(self._config.at))
            await self._sweep_for_ever(store, audit)

    def _offer(self, batcher: Batcher[RowRequest, RowOutcome] | None) -> None:
        self.batcher = batcher
        self._tell()

    async def _sweep_for_ever(self, store: RowStore, audit: Audit) -> None:
        name = self._source.name
        sweeper = Sweeper(
            name,
            store,
            self._server,
            self._jobs,
            self._cohorts,
            limit=self._settings.max_open_jobs,
            fingerprint=self._config.fingerprint,
        )
        while True:
            waiting_for = None
            try:
                if not self._source.spec.suspend and not self._resting:
                    await sweeper.sweep(due_by_source=self._due_by_source)
                await audit.step()
                await self._count(store)
            except (DatabaseUnavailable, RowsLocked) as exc:
                waiting_for = f"the database: {exc}"
            except ApiServerUnavailable as exc:
                waiting_for = f"the API server: {exc}"
                await self._sleep(exc.retry_after_s)
            self._facts = replace(self._facts, waiting_for=waiting_for, filled=audit.filled)
            await self._write_status()
            await self._sleep(AWAY_PAUSE_S if waiting_for else self._settings.interval_s)

    async def _count(self, store: RowStore) -> None:
        """Count what is due, now and then: a status is read by people."""
        now = time.monotonic()
        if now - self._counted_at < COUNT_EVERY_S:
            return
        self._counted_at = now
        counts = await store.counts()
        self._due_by_source[self._source.name] = counts.due
        self._facts = replace(self._facts, counts=counts)

    async def _pause(self, seconds: float) -> None:
        await self._write_status(at_once=True)
        await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write_status(self, *, at_once: bool = False) -> None:
        """Write what has changed. An API server that is away, or a source that has gone, is no reason to stop."""
        name = self._source.name
        facts = replace(self._facts, open_jobs=self._jobs.count(name), dead_letters=len(self._jobs.dead_letters(name)))
        new = status(facts, self._written or self._before, datetime.now(UTC))
        now = time.monotonic()
        since_written_s = math.inf if at_once else now - self._written_at
        if not worth_writing(new, self._written, since_written_s=since_written_s):
            return
        try:
            await self._server.patch_source_status(name, new)
        except (ApiServerUnavailable, Gone, RequestRefused) as exc:
            log.warning("source status not written", source=name, error=type(exc).__name__, message=str(exc))
        else:
            self._written, self._written_at = new, now
