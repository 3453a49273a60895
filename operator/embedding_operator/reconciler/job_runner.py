"""Runs one open job: decides its next step, submits its row to be embedded, and writes the outcome into its status.

Called by handlers/embedding_job.py for every event of an open job that need not wait: new, found at a restart, replayed, or
touched at the end of a pause. It does nothing with a job that another call of the handler is working on.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime

import structlog

from embedding_operator.lifecycle.job_status import JobPatch, replay_begun, settled
from embedding_operator.lifecycle.next_step import Step, next_step
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.job_records import JobRecords
from embedding_operator.reconciler.job_statuses import JobStatuses
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.row_queues import ProviderNotCallable, RowQueues
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase
from embedding_worker.clock import Clock
from embedding_worker.outcome import RowOutcome, RowRequest

log = structlog.get_logger(__name__)


class JobRunner:
    def __init__(
        self,
        table: JobTable,
        statuses: JobStatuses,
        queues: RowQueues,
        catalog: SourceCatalog,
        *,
        records: JobRecords,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        may_work: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_work`: whether this process leads, and so may begin a replay. Of calls, the gate of the source decides that."""
        self._table = table
        self._statuses = statuses
        self._queues = queues
        self._catalog = catalog
        self.records = records
        """The process runs it."""
        self._clock = clock
        self._jitter = jitter
        self._may_work = may_work
        self._draining = False
        self._handled: dict[str, EmbeddingJob] = {}
        """The job that a handler works on, by name. A job of the same name may follow one that was deleted meanwhile."""

    def drain(self) -> None:
        """Start no job from now on: open jobs are left to the next process."""
        self._draining = True

    async def run(self, job: EmbeddingJob) -> None:
        """Do the job's next step. Returns when its new status was sent, or when there is nothing to do."""
        if self._draining or not self._table.observe(job):
            return  # the process is ending, or the event is older than the operator's own last patch
        tracked = self._table.get(job.name)
        if tracked is None or tracked.has_handler or self._statuses.is_held(tracked):
            return
        self._handled[job.name] = job
        try:
            await self._carry_out(next_step(job), job, urgent=tracked.edited)
        finally:  # no outcome, cancelled, or an unexpected error: a job that stayed in flight would never be started again
            if self._works_on(job):
                self._table.release(job.name)
            if self._handled.get(job.name) is job:
                del self._handled[job.name]

    def _works_on(self, job: EmbeddingJob) -> bool:
        """Whether the handler of this job still works on it: not if it was deleted, also where a new one has its name."""
        tracked = self._table.get(job.name)
        return self._handled.get(job.name) is job and tracked is not None and tracked.has_handler

    async def _carry_out(self, step: Step, job: EmbeddingJob, *, urgent: bool) -> None:
        match step:
            case Step.BEGIN_REPLAY:
                await self._begin_replay(job)
            case Step.EMBED:
                await self._embed(job, urgent=urgent)
            case Step.NOTHING:
                return

    async def _begin_replay(self, job: EmbeddingJob) -> None:
        """Where this process may not, the job stays queued, and housekeeping finds it when it may."""
        if not self._may_work():
            return
        self._table.settle(job.name)
        version = await self._statuses.send(job.name, replay_begun(job, self._clock.now()))
        if version is None:
            return
        self._table.requeue(job.name, version)
        self.records.record_replay(job)

    async def _embed(self, job: EmbeddingJob, *, urgent: bool) -> None:
        started = self._clock.now()
        outcome = await self._outcome(job, urgent=urgent)
        if outcome is None or not self._works_on(job):
            log.info("job released: it or its source is gone, or the process ends", job=job.name, source=job.source)
            return
        policy = self._catalog.retry_policy(job.source)
        now, jitter = self._clock.now(), self._jitter()
        patch = settled(outcome, job, policy=policy, started=started, now=now, jitter=jitter)
        tracked = self._table.get(job.name)
        self._table.settle(job.name)
        version = await self._statuses.send(job.name, patch)
        if version is not None:
            self._move_on(job, patch, version)
            self._record(job, patch, started)
            if patch.phase is Phase.SUCCEEDED and tracked is not None and tracked.edited_at is not None:
                edited_s_ago = self._clock.monotonic() - tracked.edited_at
                self.records.record_fresh(job.source, edited_s_ago=edited_s_ago)

    async def _outcome(self, job: EmbeddingJob, *, urgent: bool) -> RowOutcome | None:
        """What became of the row; None if the job is not to be worked on any more."""
        request = RowRequest(job.spec.business_id, job.spec.content_hash)
        self._table.start(job.name)
        while not self._draining:
            try:
                return await self._queues.submit(job.source, request, urgent=urgent)
            except ProviderNotCallable as exc:
                if not self._works_on(job):
                    return None
                woken = asyncio.Event()
                self._table.postpone(job.name, woken)
                await exc.wait_until_callable(woken, urgent=urgent)
                if not self._table.resume(job.name, woken):
                    return None
        return None

    def _move_on(self, job: EmbeddingJob, patch: JobPatch, version: int) -> None:
        match patch.phase:
            case Phase.RETRYING:
                not_before = datetime.fromisoformat(patch.status["nextAttemptTime"])
                self._table.back_off(job.name, not_before, version, reason=str(patch.status["reason"]))
            case Phase.DEAD_LETTERED:
                self._table.mark_dead_letter(job.name, version, reason=str(patch.status["reason"]))
            case _:
                self._table.finish(job.name, version)

    def _record(self, job: EmbeddingJob, patch: JobPatch, started: datetime) -> None:
        now = self._clock.now()
        if (last := patch.last_outcome(now, before=job.status.reason)) is not None:
            self._queues.note(job.source, job.spec.business_id, last)
        self.records.record_attempt(job, patch, took_s=(now - started).total_seconds())
