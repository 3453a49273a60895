"""Creates what the loop of a source works with, once the source is accepted.

Called by source_setup.py; reads the database and writes nothing.
"""

from dataclasses import dataclass
from typing import Any

from embedding_operator.reconciler.audit import Audit
from embedding_operator.reconciler.backfill import BackfillControl, BackfillParts
from embedding_operator.reconciler.clearing import Clearing
from embedding_operator.reconciler.registers import PeekedMarks, Peeker, SharedParts
from embedding_operator.reconciler.sweep import Sweeper
from embedding_operator.reconciler.table_watch import TableWatch
from embedding_operator.resources.embedding_source import BackfillMode, EmbeddingSource
from embedding_worker.limits import Limits
from embedding_worker.pipeline import RowPipeline, make_pipeline
from embedding_worker.providers.shared_embedder import SharedEmbedder
from embedding_worker.rows.store import RowStore
from embedding_worker.source import SourceConfig


@dataclass(frozen=True)
class ReadySource:
    """What the loop of an accepted source works with."""

    store: RowStore
    sweeper: Sweeper
    clearing: Clearing
    audit: Audit
    pipeline: RowPipeline
    watch: TableWatch
    backfill: BackfillControl
    marks: PeekedMarks
    peeker: Peeker

    @property
    def nothing_to_sweep(self) -> bool:
        """Whether it is known, without a sweep, that there is neither a change mark nor a job."""
        return self.marks.are_none and not self.sweeper.has_jobs

    def calm_s(self, *, is_shown: bool) -> float | None:
        """How long the next turn may wait because there is nothing to do until a peek sees a new mark; 0 if there is.

        None while the first pass of the audit goes on. `is_shown`: whether the status says all that is known.
        """
        if not self.audit.filled:
            return None
        busy = self.backfill.is_active or self.pipeline.gate.problem is not None
        calm = is_shown and self.marks.is_current and not self.marks.are_new and self.sweeper.is_calm and not busy
        return self.audit.longest_pause_s if calm else 0.0

    async def sweep(self) -> bool:
        """Sweep, and delete marks in pages where that is worth it. Returns whether the next turn is to follow at once."""
        undecided = self.backfill.may_begin_soon(filled=self.audit.filled)
        self.marks.are_new = False
        await self.sweeper.sweep(
            edits_only=self.backfill.is_active, undecided=undecided, stop=lambda: self.marks.are_new
        )
        return await self.clearing.step(self.sweeper.seen)

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of its rows and its provider, for SourceFacts."""
        calls = self.pipeline.calls
        return {
            "filled": self.audit.filled,
            "audited_rows": self.audit.rows,
            "audit_completed_at": self.audit.completed_at,
            "provider_called": calls.called,
            "some_calls_fail": calls.some_fail,
            "provider_problem": self.pipeline.gate.problem,
            **self.backfill.facts,
        }


async def make_ready_source(
    source: EmbeddingSource,
    config: SourceConfig,
    embedder: SharedEmbedder,
    *,
    limits: Limits,
    store: RowStore,
    watch: TableWatch,
    shared: SharedParts,
) -> ReadySource:
    clock, jobs = shared.clock, shared.jobs
    sweeper: Sweeper
    pipeline = make_pipeline(
        store,
        embedder,
        too_long=source.spec.model.too_long,
        limits=limits,
        clock=clock,
        may_work=shared.may_work,
        more_to_come=lambda gathered, urgent: sweeper.more_to_come(gathered, urgent=urgent),
        source=source.name,
    )
    parts = BackfillParts(store, pipeline, jobs.table, shared.make_workers(source))
    sweeper = Sweeper(
        source.name,
        config.fingerprint,
        store=store,
        server=shared.server,
        jobs=jobs,
        note=pipeline.outcomes.add,
        hurry=pipeline.hurry,
        clock=clock,
    )
    return ReadySource(
        store,
        sweeper,
        Clearing(store, clock=clock),
        _audit_of(source, store, shared, filled=await store.is_filled()),
        pipeline,
        watch,
        BackfillControl(source, config, parts, clock=clock),
        PeekedMarks(store.marks_table, clock),
        shared.peeker,
    )


def _audit_of(source: EmbeddingSource, store: RowStore, shared: SharedParts, *, filled: bool) -> Audit:
    backfill = source.spec.backfill
    first_step_rows = backfill.threshold + 1 if backfill.mode is BackfillMode.AUTO else 0
    return Audit(
        store,
        rows_per_s=shared.audit_rows_per_s,
        filled=filled,
        clock=shared.clock,
        first_step_rows=first_step_rows,
    )
