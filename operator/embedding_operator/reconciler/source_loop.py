"""Runs one source in one configuration: sets it up, and then sweeps and audits it in turns.

Each source has a task for its loop, so that an error of one source never stops another. turn.py decides what a turn does; the
loop does it, and writes the source's status. Created by sources.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import structlog

from embedding_operator.lifecycle.source_facts import SourceFacts, facts_of
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler import turn
from embedding_operator.reconciler.failure_log import FailureLog
from embedding_operator.reconciler.ready_source import ReadySource
from embedding_operator.reconciler.row_queues import RowQueues
from embedding_operator.reconciler.source_setup import SourceSetup
from embedding_operator.reconciler.status_report import StatusReport
from embedding_operator.reconciler.turn import Look, LoopSettings, Step
from embedding_operator.reconciler.window import Window
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.clock import Clock
from embedding_worker.errors import RowsLocked, TableRefused

log = structlog.get_logger(__name__)


class SourceLoop:
    def __init__(
        self,
        source: EmbeddingSource,
        setup: SourceSetup,
        *,
        report: StatusReport,
        queues: RowQueues,
        window: Window,
        metrics: Metrics,
        settings: LoopSettings,
        clock: Clock,
    ) -> None:
        self._source = source
        self._name = source.name
        self._setup = setup
        self._report = report
        self._queues = queues
        self._window = window
        self._metrics = metrics
        self._interval_s, self._may_work = settings.interval_s, settings.may_work
        self._clock = clock
        self._facts = facts_of(source, price_per_million_tokens=settings.price_per_million_tokens)
        self._refused_change: tuple[str, str] | None = None
        self._requested = self._facts.reconciled_at
        self._refusal: TableRefused | None = None
        """The database has refused to change any row: until it accepts one, no call is paid for."""
        self._counted_at: float | None = None
        self._locked_turns = 0
        self._wake = asyncio.Event()
        self._draining, self._set_up_again = False, False
        self._ready_source: ReadySource | None = None
        self._failures = FailureLog(source.name)
        self.last_turn = clock.monotonic()
        """When the loop last began a turn or a pause, or read a page, by the monotonic clock. If long ago, the loop hangs."""

    @property
    def waiting_for(self) -> str | None:
        """What cannot be reached at the moment, in a sentence; None if everything can be reached."""
        return self._facts.waiting_for.message if self._facts.waiting_for else None

    @property
    def view(self) -> tuple[SourceFacts, ReadySource | None]:
        """What is known of the source, and what it works with while it is set up: for questions about its rows."""
        return self._facts, self._ready_source

    def wake(self) -> None:
        """Begin the next turn now, or immediately after the present one."""
        self._wake.set()

    def retry(self) -> None:
        """Begin the next turn now, also with rows whose jobs were refused: what has refused them may have changed."""
        if self._ready_source is not None:
            self._ready_source.sweeper.retry_refused()
        self.wake()

    def request_reconcile(self, token: str | None) -> None:
        """If this token is a new one: have the next turn sweep, and audit the whole table, and the provider called now."""
        if token != self._requested:
            self._requested = token
            if self._ready_source is not None:
                self._ready_source.pipeline.gate.retry_now()
            self.wake()

    def compare_status(self, listed: EmbeddingSource, *, listed_at: float) -> None:
        """Have the status written again in the next turn, if it is not as it was written."""
        if listed.metadata.uid == self._source.metadata.uid:
            self._report.compare(listed.status, listed_at=listed_at)

    def set_up_again(self) -> None:
        """Set the source up again after the present turn."""
        self._set_up_again = True
        self.wake()

    def drain(self) -> None:
        """Create no more jobs, and begin no other call of a backfill: the process is about to end."""
        self._draining = True
        if self._ready_source is not None:
            self._ready_source.backfill.drain()

    async def wait_until_drained(self) -> None:
        """Return when the calls of a backfill that are in flight are written. Jobs have their own table."""
        if self._ready_source is not None:
            await self._ready_source.backfill.wait_until_drained()

    async def run(self) -> None:
        """Run until cancelled."""
        self._window.set_idle(self._name, True)
        while True:
            try:
                async with self._ready() as ready:
                    while not self._set_up_again:
                        await self._pause(await self._turn(ready))
                await self._pause_before_setup()
            except Exception as exc:  # an unexpected error in one source is reported and stops no other source
                await self._stall(exc)

    async def _pause_before_setup(self) -> None:
        """The set-up was requested: it may be requested again at once, so it is done no more often than after a refusal."""
        self._set_up_again = False
        self._wake.clear()
        await self._pause(turn.REFUSED_PAUSE_S)

    @asynccontextmanager
    async def _ready(self) -> AsyncIterator[ReadySource]:
        """Set the source up, and accept the rows of its jobs until the block ends."""
        await self._report.begin(self._facts)
        chosen = await self._setup.decide(self._source, self._record_progress)
        self._refused_change = chosen.refused_change
        self._record(**chosen.facts())
        ready = await self._setup.prepare(self._source, chosen)
        if self._refusal is not None:
            await ready.pipeline.rows.resume_after(self._refusal)
            self._refusal = None
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(ready.pipeline.running(probes=not self._source.spec.suspend))
            await stack.enter_async_context(ready.backfill.running())
            self._ready_source = ready
            stack.callback(self._close_queue)
            stack.enter_context(ready.peeker.peeking(ready.marks, self._failures.unless_failing(self.wake)))
            if not self._source.spec.suspend:
                self._queues.open(self._name, ready.pipeline)
                self._window.set_idle(self._name, False)
            known = {"filled": ready.audit.filled, "paused_since": ready.watch.paused_since}
            self._record(set_up=True, model=chosen.model(self._source), **known)
            self._failures.forget()
            fingerprint = chosen.config.fingerprint
            log.info("source ready", source=self._name, table=str(chosen.config.at), fingerprint=fingerprint)
            yield ready

    def _close_queue(self) -> None:
        self._ready_source = None
        self._queues.close(self._name)
        self._window.set_idle(self._name, True)

    def _record_progress(self) -> None:
        """The loop does not hang, although a step of it takes long."""
        self.last_turn = self._clock.monotonic()

    async def _turn(self, ready: ReadySource) -> float:
        """Do one turn. Returns how long to pause after it. Raises errors after which the source has to be set up again."""
        self._record_progress()
        reaction = None
        try:
            with self._metrics.time_turn(self._name):
                await self._do(ready)
        except Exception as exc:
            self._locked_turns = self._locked_turns + 1 if isinstance(exc, RowsLocked) else 0
            reaction = turn.after_failed_turn(exc, locked_turns=self._locked_turns)
            if reaction is None:
                raise
            self._failures.record_turn(exc)
        else:
            self._locked_turns = 0
            self._failures.forget()
        problem, suspended = ready.pipeline.gate.problem, self._source.spec.suspend
        self._window.set_idle(self._name, problem is not None or suspended)
        limit = None if suspended else ready.sweeper.problem
        self._record(
            waiting_for=reaction.waiting_for if reaction else None,
            refused=limit or self._refused_change,
            jobs_refused=None if suspended else ready.sweeper.jobs_refused,
            rows_locked=self._report.rows_locked and not suspended,
            **ready.facts,
        )
        self._metrics.record_refused_creates(self._name, ready.sweeper.count_refused_creates())
        letters = ready.sweeper.dead_letters
        self._metrics.record_dead_letters(self._name, letters.number, limit_reached=limit is not None)
        self._metrics.record_facts(self._name, self._facts)
        await self._report.write(self._facts)
        self._report.emit_adopted(ready.audit.adopted)
        return turn.pause_s(self._interval_s, reaction, calm_s=ready.calm_s(is_shown=not self._report.is_late))

    async def _do(self, ready: ReadySource) -> None:
        requested, handled = self._requested, self._facts.reconciled_at
        if ready.pipeline.rows.refusal is not None:
            raise ready.pipeline.rows.refusal
        idle = self._draining or not self._may_work()
        look = Look(self._source.spec.suspend, idle, requested, handled, nothing_to_sweep=ready.nothing_to_sweep)
        changed, failed, due = False, None, self._window.due(self._name)
        await self._watch(ready)
        if not idle:
            await ready.backfill.step(due=due, filled=ready.audit.filled, texts_sent=self._facts.texts_sent)
        for step in turn.steps(look):
            match step:
                case Step.SWEEP:
                    failed = await self._sweep(ready)
                case Step.AUDIT_WHOLE_TABLE:
                    changed = await self._audit_whole_table(ready, requested)
                case Step.AUDIT_STEP:
                    changed = await ready.audit.step() or changed
        await self._count(ready, changed=changed)
        if (error := failed or ready.pipeline.rows.unanswered.error) is not None:
            raise error

    async def _audit_whole_table(self, ready: ReadySource, requested: str | None) -> bool:
        """Read on for a few seconds. Returns whether all is read; if not, the next turn follows at once."""
        read = await ready.audit.read_whole_table(requested)
        if read:
            self._record(reconciled_at=requested)
        else:
            self.wake()
        return read

    async def _watch(self, ready: ReadySource) -> None:
        await ready.watch.step(filled=ready.audit.filled)
        if ready.watch.outdated is not None:
            log.info("source has to be set up again", source=self._name, why=ready.watch.outdated)
            self.set_up_again()

    async def _sweep(self, ready: ReadySource) -> Exception | None:
        """Returns an error after which the turn goes on, and raises any other."""
        try:
            if await ready.sweep():
                self.wake()
        except Exception as exc:
            if not turn.goes_on(exc):
                raise
            return exc
        return None

    async def _count(self, ready: ReadySource, *, changed: bool) -> None:
        now = self._clock.monotonic()
        counted_s_ago = None if self._counted_at is None else now - self._counted_at
        if not turn.must_count(counted_s_ago=counted_s_ago, changed=changed):
            return
        counts, used = await ready.store.counts_and_use(dead_letters=self._report.dead_letters())
        self._counted_at = now
        self._window.record_due(self._name, counts.due, jobs_for_all=not ready.backfill.is_active)
        self._record(counts=counts, used=used)

    async def _stall(self, error: Exception) -> None:
        """Report that the source is not set up, and wait before the next try."""
        if isinstance(error, TableRefused):
            self._refusal = error
        error = await self._setup.find_cause(self._source, error)
        reaction = turn.after_failed_setup(error)
        self._failures.record_stall(error)
        refused = reaction.refused and await self._setup.explain(self._source, reaction.refused)
        self._record(set_up=False, waiting_for=reaction.waiting_for, refused=refused, rows_locked=False)
        self._metrics.record_facts(self._name, self._facts)
        await self._report.write(self._facts, at_once=True)
        await self._pause(reaction.pause_s)

    async def _pause(self, seconds: float) -> None:
        """Wait for the next turn. If `wake` was called during the present one, there is no pause."""
        self._record_progress()
        await self._clock.wait_for(self._wake, within_s=seconds)
        self._wake.clear()

    def _record(self, **changes: Any) -> None:
        """Change the source's facts, which happens only here."""
        self._facts = replace(self._facts, **changes)
