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
from functools import partial
from typing import Any

import structlog

from embedding_operator import source_state
from embedding_operator.api_server import ApiServerUnavailable, Gone, RequestRefused
from embedding_operator.lifecycle import events
from embedding_operator.reconciler.audit import Audit
from embedding_operator.reconciler.shared import Shared
from embedding_operator.reconciler.sweep import Sweeper
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.source_state import Pending, SourceFacts
from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import SystemClock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused
from embedding_worker.outcome import RowOutcome, RowRequest
from embedding_worker.providers.calls import BYTES_PER_TOKEN, ProviderCalls
from embedding_worker.providers.embedder import Embedder
from embedding_worker.rows.store import RowStore
from embedding_worker.source import Model, SourceConfig, in_force

log = structlog.get_logger(__name__)

REFUSED_PAUSE_S = 30.0
"""A refused source is looked at again so often: the mend may be in the database, where nothing tells us."""
AWAY_PAUSE_S = 2.0
COUNT_EVERY_S = 0.5
LOCKED_TURNS = 5


class SourceLoop:
    """Runs one source in one configuration; a change of its spec ends it, and another one begins."""

    def __init__(
        self,
        source: EmbeddingSource,
        shared: Shared,
        *,
        tell: Callable[[], None],
        older_on_the_same_column: Callable[[EmbeddingSource], str | None],
    ) -> None:
        self._source = source
        self._name = source.name
        self._shared = shared
        self._tell = tell
        self._older_on_the_same_column = older_on_the_same_column
        self._facts = SourceFacts(
            source.metadata.generation,
            source.spec.config().fingerprint,
            suspended=source.spec.suspend,
            reconciled_at=source.status.get("lastHandledReconcileAt"),
            price_per_million_tokens=shared.settings.price_per_million_tokens,
        )
        self._written: dict[str, Any] = {}
        self._written_at = 0.0
        self._counted_at = 0.0
        self._wake = asyncio.Event()
        self._resting = False
        self._refused_change: tuple[str, str] | None = None
        self._requested_at = self._facts.reconciled_at
        self.last_turn = time.monotonic()
        """When the loop last came round: it does so every few seconds, whatever is away."""
        self.batcher: Batcher[RowRequest, RowOutcome] | None = None
        """Where the job handlers bring their rows, once the source is accepted."""

    @property
    def waiting_for(self) -> str | None:
        """What is away at the moment, in a sentence."""
        return self._facts.waiting_for

    def job_left(self) -> None:
        """A job has settled. Look again once half of the window is free: a look for each would cost more than it finds."""
        if self._shared.jobs.active() <= self._shared.window() // 2:
            self._wake.set()

    def asked_to_reconcile(self, token: str | None) -> None:
        """Sweep, and audit the whole table as fast as it goes, if this token is a new one."""
        if token != self._requested_at:
            self._requested_at = token
            self._wake.set()

    def provider_rotated(self) -> None:
        """A provider's setting has changed: look again at what was refused for the old value."""
        self._wake.set()

    def _embedder(self, model: Model) -> Embedder:
        return self._shared.registry.embedder(model, source=self._name)

    def rest(self) -> None:
        """Make no new job from now on: the process is about to end."""
        self._resting = True

    async def run(self) -> None:
        """Until cancelled."""
        self._is_idle(True)
        while True:
            try:
                await self._set_up_and_sweep()
            except SourceRefused as exc:
                log.error("source stalled", source=self._name, reason=exc.reason, message=exc.message)
                self._facts = replace(self._facts, set_up=False, waiting_for=None, refused=(exc.reason, exc.message))
                await self._pause(REFUSED_PAUSE_S)
            except (DatabaseUnavailable, RowsLocked) as exc:
                self._facts = replace(self._facts, refused=None, waiting_for=f"the database: {exc}")
                await self._pause(AWAY_PAUSE_S)
            except Exception as exc:  # a fault of ours in one source is to be seen, and stops no other source
                log.exception("source stalled by an unexpected error", source=self._name)
                message = f"an unexpected error, {type(exc).__name__}: see the operator's log, and report it"
                self._facts = replace(self._facts, set_up=False, waiting_for=None, refused=("InternalError", message))
                await self._pause(REFUSED_PAUSE_S)

    async def _set_up_and_sweep(self) -> None:
        if (older := self._older_on_the_same_column(self._source)) is not None:
            raise SourceRefused(
                "ColumnTaken", f"EmbeddingSource {older} already serves this column: delete one of the two"
            )
        await self._write_status()
        spec, shared = self._source.spec, self._shared
        config = await self._configuration()
        self._embedder(config.model)  # refused before anything is made in the database
        store = await RowStore.prepare(shared.database, config)
        audit = Audit(store, rows_per_s=shared.settings.audit_rows_per_s, filled=await store.is_filled())
        acquire_texts = partial(_acquire_texts, store, spec.max_texts_per_day)
        clock = SystemClock()
        embedder = self._embedder(config.model)
        calls = ProviderCalls(embedder, acquire_texts=acquire_texts, clock=clock)
        row_embedder = RowEmbedder(store, calls, too_long=spec.model.too_long, clock=clock)
        async with AsyncExitStack() as stack:
            batcher = await stack.enter_async_context(
                Batcher(row_embedder.embed_batch, max_items=embedder.max_texts, clock=clock)
            )
            stack.callback(self._offer, None)
            self._offer(None if spec.suspend else batcher)
            self._facts = replace(self._facts, set_up=True, filled=audit.filled)
            log.info("source ready", source=self._name, table=str(config.at), fingerprint=config.fingerprint)
            await self._sweep_for_ever(store, audit, calls, config)

    async def _configuration(self) -> SourceConfig:
        """The configuration to run. What waits for approval beside it, or can't be had, goes into the facts."""
        wanted, database = self._source.spec.config(), self._shared.database
        record = await RowStore.configuration_on_record(database, wanted.at)
        config, waiting = in_force(wanted, record, approved=self._source.spec.approved_fingerprint)
        pending, self._refused_change = None, None
        if waiting is not None:
            try:
                rows, size = await (await RowStore.inspect(database, wanted)).would_embed()
                pending = Pending(waiting, rows, size // BYTES_PER_TOKEN)
                log.info("a changed model or text waits for approval", source=self._name, pending=waiting, rows=rows)
            except SourceRefused as exc:  # the one before is none the worse for it
                self._refused_change = (exc.reason, f"{exc.message} (the configuration before stays in force)")
                log.error("source stalled", source=self._name, reason=exc.reason, message=exc.message)
        self._facts = replace(
            self._facts, fingerprint=config.fingerprint, pending=pending, refused=self._refused_change
        )
        return config

    def _is_idle(self, idle: bool) -> None:
        """Whether the source's open jobs can't be worked on at the moment."""
        change = self._shared.idle.add if idle else self._shared.idle.discard
        change(self._name)

    def _offer(self, batcher: Batcher[RowRequest, RowOutcome] | None) -> None:
        self.batcher = batcher
        self._is_idle(batcher is None)
        self._tell()

    async def _sweep_for_ever(self, store: RowStore, audit: Audit, calls: ProviderCalls, config: SourceConfig) -> None:
        shared = self._shared
        sweeper = Sweeper(
            self._name,
            store,
            shared.server,
            shared.jobs,
            shared.cohorts,
            window=shared.window,
            most=shared.settings.max_open_jobs,
            fingerprint=config.fingerprint,
        )
        locked = 0
        while True:
            self.last_turn = time.monotonic()
            waiting_for = None
            try:
                with shared.metrics.sweeping(self._name):
                    await self._turn(store, sweeper, audit)
            except RowsLocked as exc:
                locked += 1
                log.info("rows locked", source=self._name, error=str(exc), times=locked)
                if locked >= LOCKED_TURNS:  # now and then is nothing: the next turn will have them
                    waiting_for = f"the database: {exc}, {locked} times in a row"
            except DatabaseUnavailable as exc:
                waiting_for = f"the database: {exc}"
            except ApiServerUnavailable as exc:
                waiting_for = f"the API server: {exc}"
                await asyncio.sleep(exc.retry_after_s)
            except RequestRefused as exc:
                waiting_for = f"the API server refuses: {exc}"
                await asyncio.sleep(AWAY_PAUSE_S)
            else:
                locked = 0
            self._is_idle(calls.problem is not None or self._source.spec.suspend)
            self._facts = replace(
                self._facts,
                waiting_for=waiting_for,
                filled=audit.filled,
                provider_problem=calls.problem,
                refused=sweeper.problem or self._refused_change,
            )
            await self._write_status()
            await self._sleep(AWAY_PAUSE_S if waiting_for else shared.settings.interval_s)

    async def _turn(self, store: RowStore, sweeper: Sweeper, audit: Audit) -> None:
        if not self._source.spec.suspend and not self._resting:
            await sweeper.sweep(due_by_source=self._shared.due_by_source, idle=self._shared.idle)
        if self._requested_at != self._facts.reconciled_at:
            requested = self._requested_at
            await audit.whole_table()
            self._facts = replace(self._facts, reconciled_at=requested)
            self._counted_at = 0.0
        if await audit.step():
            self._counted_at = 0.0  # what was counted before says nothing of what was found now
        await self._count(store)

    async def _count(self, store: RowStore) -> None:
        """Count what is due, now and then: a status is read by people."""
        now = time.monotonic()
        if now - self._counted_at < COUNT_EVERY_S:
            return
        self._counted_at = now
        counts = await store.counts(dead_letters=self._shared.jobs.dead_letters(self._name))
        self._shared.due_by_source[self._name] = counts.due
        self._shared.metrics.counted(self._name, counts)
        self._facts = replace(self._facts, counts=counts, used=await store.used_today())

    async def _pause(self, seconds: float) -> None:
        self.last_turn = time.monotonic()
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
        jobs, now = self._shared.jobs, time.monotonic()
        facts = replace(self._facts, open_jobs=jobs.count(self._name), dead_letters=len(jobs.dead_letters(self._name)))
        before = self._written or self._source.status
        new = source_state.status(facts, before, datetime.now(UTC))
        since_written_s = math.inf if at_once else now - self._written_at
        if not source_state.worth_writing(new, self._written, since_written_s=since_written_s):
            return
        try:
            await self._shared.server.patch_source_status(self._name, new)
        except (ApiServerUnavailable, Gone, RequestRefused) as exc:
            log.warning("source status not written", source=self._name, error=type(exc).__name__, message=str(exc))
        else:
            self._written, self._written_at = new, now
            for event in events.of_source(self._source, before.get("conditions", ()), new["conditions"]):
                self._shared.events.tell(event)


async def _acquire_texts(store: RowStore, most_a_day: int, texts: int, tokens: int) -> int:
    return await store.acquire_texts(texts, tokens=tokens, most_a_day=most_a_day)
