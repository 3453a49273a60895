"""Begins, follows and ends the backfills of one source, and runs them in this process, or has workers run them.

Called by the source's loop in each turn. While a backfill is active, the sweep creates jobs for edited rows only.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog

from embedding_operator.reconciler.backfill_workers import Workers, WorkersNotEnabled
from embedding_operator.reconciler.backlog_watch import BacklogWatch
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.local_backfill import LocalBackfill
from embedding_operator.resources.embedding_source import BackfillMode, EmbeddingSource
from embedding_worker.clock import Clock
from embedding_worker.errors import SourceRefused
from embedding_worker.pipeline import RowPipeline
from embedding_worker.rows.backfills import BackfillRun, BackfillSettings, WorkerReport
from embedding_worker.rows.store import RowStore
from embedding_worker.source import SourceConfig

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
NO_ROW_LEFT = "no row is left"
BEGIN_LOOK_EVERY_S = 5.0
SEEN_WITHIN_S = 15.0
"""A worker that has reported within this time is at work."""
COUNT_AT_LEAST_EVERY_S = 10.0
LAST_REPORT_S = 1.0
COUNT_COSTS = 100
"""After a count of all marks, the next one waits for so many times as long as it took."""


class Step(Enum):
    NONE = "None"
    BEGIN = "Begin"
    GO_ON = "GoOn"
    END = "End"


def next_step(*, auto: bool, active: bool, over_threshold: bool, any_left: bool, filled: bool) -> Step:
    """What is to be done now. A backfill goes on to its end, also when no more rows than the threshold are left.

    Until the first audit has read the whole table (`filled`), it marks more rows.
    """
    if not active:
        return Step.BEGIN if auto and over_threshold else Step.NONE
    return Step.GO_ON if auto and (any_left or not filled) else Step.END


@dataclass(frozen=True)
class BackfillParts:
    """What the backfills of a source work with."""

    store: RowStore
    pipeline: RowPipeline
    jobs: JobTable
    workers: Workers


class BackfillControl:
    def __init__(self, source: EmbeddingSource, config: SourceConfig, parts: BackfillParts, *, clock: Clock) -> None:
        self._source = source
        self._name = f"{source.metadata.namespace}/{source.name}"
        self._spec = source.spec.backfill
        self._settings = BackfillSettings(config, parts.pipeline.limits, self._spec.concurrency, self._spec.workers)
        self._records = parts.store.backlog.records
        self._parts = parts
        self._clock = clock
        self._run: BackfillRun | None = None
        """The one on record, when that was last read."""
        self._was_read = False
        self._local = LocalBackfill(
            parts.store, parts.pipeline, source=source.name, concurrency=self._spec.concurrency, clock=clock
        )
        self._reports: list[WorkerReport] = []
        self._watch = BacklogWatch(source, config, parts.store, clock=clock)
        self._next_look_at = float("-inf")
        self._next_count_at = float("-inf")
        self._draining = False

    @property
    def is_active(self) -> bool:
        """Whether only edited rows get jobs."""
        return self._run is not None and self._run.is_active

    def may_begin_soon(self, *, filled: bool) -> bool:
        """Whether one may begin when more of the table is read, which the first audit does until it is `filled`."""
        return self._is_auto and not filled and not self.is_active

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What runs in this process ends with the block."""
        try:
            yield
        finally:
            await self._local.stop()
            await self._report_the_last()

    async def _report_the_last(self) -> None:
        """Record what was done since the last look, if the database answers soon."""
        if self._run is not None and self._run.is_active:
            with suppress(TimeoutError, SourceRefused):
                async with asyncio.timeout(LAST_REPORT_S):
                    await self._report(self._run)

    def _may_continue(self, run: BackfillRun) -> bool:
        # A record holds what a worker needs, and not the whole configuration of a source.
        same = run.settings.as_record() == self._settings.as_record()
        return same and run.source == self._name and self._is_auto

    def drain(self) -> None:
        """Begin no other call: the process is about to end."""
        self._draining = True
        self._local.drain()

    async def wait_until_drained(self) -> None:
        """Return when the calls in flight in this process are written."""
        await self._local.wait_until_drained()

    async def step(self, *, due: int, filled: bool, texts_sent: int = 0) -> None:
        """Do what is to be done now. `due`: rows that are due for any reason. `filled`: the first audit is complete.
        `texts_sent`: today.

        Raises what the store raises, and what has ended the backfill in this process.
        """
        self._local.raise_failure()
        await self._watch.look(due=due, texts_sent=texts_sent)
        # At the first step the due rows are not counted yet: without a look, they would get jobs in the sweep that follows.
        is_first = not self._was_read
        may_begin = (is_first or due > self._spec.threshold) and self._is_auto and not self._source.spec.suspend
        if self._draining or self._clock.monotonic() < self._next_look_at:
            return
        if not self._was_read or self.is_active or may_begin:
            await self._read_record()
        if not (self.is_active or may_begin):
            return
        if self.is_active or not is_first:
            self._next_look_at = self._clock.monotonic() + (LOOK_EVERY_S if self.is_active else BEGIN_LOOK_EVERY_S)
        match await self._decide(filled=filled):
            case Step.BEGIN:
                await self._begin()
            case Step.GO_ON:
                await self._follow()
            case Step.END if self._run is not None:
                await self._end(self._run, why=NO_ROW_LEFT)

    async def _read_record(self) -> None:
        """Another process that leads, or led, may have begun or ended a backfill, and a database may be an earlier one."""
        run, before = await self._records.present(self._settings.config.at.bookkeeping_name), self._run
        if before is not None and before.is_active and (run is None or run.run != before.run or not run.is_active):
            log.warning("the backfill on record is not the one that was followed", source=self._source.name)
            await self._local.stop()
            self._local.forget()
        if run is None or before is None or run.run != before.run:
            # Those of the backfill that is followed are read in each look.
            self._reports = [] if run is None else await self._records.reports(run)
        self._run, self._was_read = run, True
        if run is not None and run.is_active and not self._may_continue(run):
            await self._end(run, why="the source has changed")

    @property
    def _is_auto(self) -> bool:
        return self._spec.mode is BackfillMode.AUTO

    async def _decide(self, *, filled: bool) -> Step:
        active, backlog = self.is_active, self._parts.store.backlog
        return next_step(
            auto=self._is_auto,
            active=active,
            over_threshold=not active and await backlog.reaches(self._spec.threshold + 1),
            any_left=active and not await backlog.is_empty(),
            filled=filled,
        )

    async def _begin(self) -> None:
        """Rows that have a job keep it: the backfill leaves them alone."""
        store = self._parts.store
        await store.backlog.hand_over([job.business_id for job in self._parts.jobs.jobs(self._source.name)])
        total = await store.backlog.count()
        await self._watch.before_backfill(total)
        run = await self._records.begin(secrets.token_hex(4), self._name, self._settings, total=total)
        self._run, self._reports = run, []
        self._local.forget()
        log.info("backfill started", source=self._source.name, rows=total, workers=self._settings.workers)
        await self._follow()

    async def _follow(self) -> None:
        """Have it run where it is to run, record what this process has done, and read what all have done."""
        run = self._run
        assert run is not None
        await self._report(run)
        if run.paused != self._source.spec.suspend:  # workers that were started by hand know only the database
            run = self._run = await self._records.record_paused(run, paused=self._source.spec.suspend)
        if self._source.spec.suspend:
            await self._local.stop()
            await self._parts.workers.remove()
        elif self._settings.workers:
            await self._parts.workers.ensure(run)
        else:
            self._local.start()
        self._reports = await self._records.reports(run)
        self._watch.record_rows(self._worked_on)
        if self._clock.monotonic() >= self._next_count_at:
            await self._count(run)

    async def _count(self, run: BackfillRun) -> None:
        began = self._clock.monotonic()
        total = self._worked_on + await self._parts.store.backlog.count()
        took_s = self._clock.monotonic() - began
        self._next_count_at = began + max(COUNT_AT_LEAST_EVERY_S, COUNT_COSTS * took_s)
        self._run = await self._records.record_total(run, total)

    @property
    def _worked_on(self) -> int:
        return sum(report.done + report.failed for report in self._reports)

    async def _report(self, run: BackfillRun) -> bool:
        """Record what this process has done since the last report. Returns False while the database is away."""
        report = self._local.unreported()
        if report is None:
            return True
        if recorded := await self._records.report(run, report):
            self._local.record_reported(report)
        return recorded

    async def _end(self, run: BackfillRun, *, why: str) -> None:
        await self._local.stop()
        if not await self._report(run):
            return  # the next step tries again
        await self._parts.workers.remove()
        self._reports = await self._records.reports(run)
        if why == NO_ROW_LEFT:
            await self._watch.after_backfill(self._worked_on)
        self._run = await self._records.end(run)
        if self._run is not None and self._run.total != self._worked_on and why == NO_ROW_LEFT:
            self._run = await self._records.record_total(self._run, self._worked_on)
        log.info("backfill ended", source=self._source.name, why=why, rows=self._worked_on)

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the last backfill, and of a backlog without one, for SourceFacts."""
        run, watch = self._run, self._watch
        known = {"backlog": watch.backlog, "index_advice": watch.index_advice, "backfill_known": self._was_read}
        if run is None:
            return known
        return known | {
            "backfill": self._watch.facts(run, self._reports, at_work=self._workers_at_work, problem=self._problem)
        }

    @property
    def _workers_at_work(self) -> int:
        return sum(report.reported_s_ago <= SEEN_WITHIN_S for report in self._reports)

    @property
    def _problem(self) -> tuple[str, str] | None:
        """Why it does not get on, as far as it is not the provider's condition that says it."""
        workers = self._parts.workers
        by_hand = isinstance(workers, WorkersNotEnabled) and self._workers_at_work > 0
        if workers.problem is not None and not by_hand:
            return workers.problem
        if self._source.spec.suspend:  # its workers wait, as they should
            return None
        at_work = [report for report in self._reports if report.reported_s_ago <= SEEN_WITHIN_S and not report.finished]
        if at_work and all(report.problem for report in at_work):
            return "WorkersWaiting", at_work[0].problem
        if self._settings.workers and not self._workers_at_work:
            return "WorkersStarting", "no worker has reported lately: see the pods of the backfill's Job"
        return None
