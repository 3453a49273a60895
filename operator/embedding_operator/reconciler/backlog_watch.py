"""Watches the backlog of one source for its status: the rate of a backfill, how long many jobs will take, advice about indexes.

Called by the source's backfills in each turn. It begins and ends nothing.
"""

from collections.abc import Sequence

from embedding_operator.lifecycle.backfill_status import BackfillFacts, Backlog, RowRate
from embedding_operator.resources.embedding_source import BackfillMode, EmbeddingSource
from embedding_worker.clock import Clock
from embedding_worker.rows.backfills import BackfillRun, WorkerReport
from embedding_worker.rows.index_advice import index_advice
from embedding_worker.rows.store import RowStore
from embedding_worker.source import SourceConfig

LOOK_EVERY_S = 5.0
MEASURED_FIRST_S = 20.0
"""A large backlog is reported when the rate of its jobs was measured for so long."""
LONGEST_UNREPORTED_S = 60.0
"""Then it is reported without a rate: the source is suspended, or its provider may not be called."""


class BacklogWatch:
    def __init__(self, source: EmbeddingSource, config: SourceConfig, store: RowStore, *, clock: Clock) -> None:
        self._spec = source.spec.backfill
        self._suspended = source.spec.suspend
        self._config = config
        self._store = store
        self._clock = clock
        self._rows = RowRate()
        self._texts = RowRate()
        self._large_since: float | None = None
        self._next_look_at = float("-inf")
        self.backlog: Backlog | None = None
        """With mode Jobs, the rows that no edit made due, if they are more than the threshold."""
        self.index_advice: str | None = None
        """What was right when the last backfill began or ended."""

    async def before_backfill(self, rows: int) -> None:
        """A backfill of so many rows is about to begin."""
        indexes = await self._store.backlog.index_facts()
        self.index_advice = index_advice(self._config, indexes, rows=rows, due=rows)
        self._rows = RowRate()

    async def after_backfill(self, rows: int) -> None:
        """Of a backfill, so many rows were worked on, and none is left."""
        indexes = await self._store.backlog.index_facts()
        self.index_advice = index_advice(self._config, indexes, rows=rows, due=0)

    def record_rows(self, rows: int) -> None:
        """So many rows of the backfill were worked on since its beginning."""
        self._rows.record(self._clock.monotonic(), rows)

    def facts(
        self, run: BackfillRun, reports: Sequence[WorkerReport], *, at_work: int, problem: tuple[str, str] | None
    ) -> BackfillFacts:
        """What is known of a backfill. `at_work`: worker processes that embed its rows."""
        return BackfillFacts(
            total=run.total,
            done=sum(report.done for report in reports),
            failed=sum(report.failed for report in reports),
            rows_per_s=self._rows.rows_per_s if run.is_active else None,
            workers=at_work if run.settings.workers and run.is_active else 0,
            began_at=run.begun_at,
            completed_at=run.ended_at,
            problem=problem if run.is_active else None,
            paused=self._suspended,
        )

    async def look(self, *, due: int, texts_sent: int) -> None:
        """Find out whether a large backlog gets jobs. `texts_sent`: today, from which the rate of the jobs is measured."""
        now = self._clock.monotonic()
        if self._spec.mode is not BackfillMode.JOBS or now < self._next_look_at:
            return
        self._next_look_at = now + LOOK_EVERY_S
        self._texts.record(now, texts_sent)
        if not await self._is_large(due):
            self._large_since = self.backlog = None
            return
        self._large_since = now if self._large_since is None else self._large_since
        waited_s, rate = now - self._large_since, self._texts.rows_per_s
        if waited_s >= LONGEST_UNREPORTED_S or (rate and waited_s >= MEASURED_FIRST_S):
            self.backlog = Backlog(due, rate)

    async def _is_large(self, due: int) -> bool:
        """Once it is large, it stays so until half of the threshold is reached, so that the condition does not change often."""
        limit = self._spec.threshold if self._large_since is None else self._spec.threshold // 2
        return due > limit and await self._store.backlog.reaches(limit + 1)
