"""The backfills on record in PostgreSQL: what is to be embedded, and how far each worker has come.

The operator begins, pauses and ends a backfill. Its workers may be other processes, which know only PostgreSQL and the
provider: they read here what to do, report their progress, and notice that the backfill is paused, has
ended or was replaced.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from embedding_worker.errors import DatabaseUnavailable, RowsLocked
from embedding_worker.limits import Limits
from embedding_worker.rows.database import Database, Row
from embedding_worker.rows.derived_table import HASHED_BY, SCHEMA
from embedding_worker.source import OPTIONAL_ON_RECORD, ChangeDetection, Model, SourceConfig, TableColumn, TooLong

log = structlog.get_logger(__name__)

COLUMNS = "b.source, b.run, b.settings, b.total, b.begun_at, b.ended_at, b.paused"
BEGIN = f"""
INSERT INTO {SCHEMA}.backfills AS b (bookkeeping, source, run, settings, total) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (bookkeeping) DO UPDATE SET source = excluded.source, run = excluded.run, settings = excluded.settings,
    total = excluded.total, begun_at = now(), ended_at = NULL, paused = false
WHERE b.ended_at IS NOT NULL
RETURNING {COLUMNS}
"""
PRESENT = f"SELECT {COLUMNS} FROM {SCHEMA}.backfills b WHERE b.bookkeeping = $1"
OF_SOURCE = (
    f"SELECT {COLUMNS} FROM {SCHEMA}.backfills b WHERE b.source = $1 AND b.ended_at IS NULL ORDER BY b.begun_at DESC"
)
END = f"UPDATE {SCHEMA}.backfills SET ended_at = now() WHERE bookkeeping = $1 AND run = $2 AND ended_at IS NULL"
BACKFILLS_EXIST = f"SELECT to_regclass('{SCHEMA}.backfills') IS NOT NULL"
END_OF_RELEASED = (
    f"UPDATE {SCHEMA}.backfills SET ended_at = now() WHERE bookkeeping = ANY($1::text[]) AND ended_at IS NULL"
)
RECORD_TOTAL = f"UPDATE {SCHEMA}.backfills SET total = $3 WHERE bookkeeping = $1 AND run = $2 AND total <> $3"
RECORD_PAUSED = f"UPDATE {SCHEMA}.backfills SET paused = $3 WHERE bookkeeping = $1 AND run = $2 AND paused <> $3"
# A worker that begins again, after its process was killed, counts on from what was reported. One of an earlier backfill that has
# not noticed the present one reports nothing.
REPORT = f"""
INSERT INTO {SCHEMA}.backfill_workers AS w (bookkeeping, run, worker, done, failed, problem, finished)
SELECT b.bookkeeping, b.run, $3::int, $4::bigint, $5::bigint, $6::text, $7::boolean
FROM {SCHEMA}.backfills b WHERE b.bookkeeping = $1 AND b.run = $2
ON CONFLICT (bookkeeping, worker) DO UPDATE SET run = excluded.run,
    done = excluded.done + CASE WHEN w.run = excluded.run THEN w.done ELSE 0 END,
    failed = excluded.failed + CASE WHEN w.run = excluded.run THEN w.failed ELSE 0 END,
    problem = excluded.problem, finished = excluded.finished, reported_at = now()
"""
REPORTS = f"""
SELECT w.worker, w.done, w.failed, w.problem, w.finished, extract(epoch FROM now() - w.reported_at)::float8
FROM {SCHEMA}.backfill_workers w WHERE w.bookkeeping = $1 AND w.run = $2 ORDER BY w.worker
"""


@dataclass(frozen=True)
class BackfillSettings:
    """All that a worker needs to know in order to embed rows as the operator does."""

    config: SourceConfig
    limits: Limits
    concurrency: int
    """Calls in flight in each worker."""
    workers: int
    """Processes that share the marks; 0 if the operator itself embeds the rows."""
    hashed_by: str = HASHED_BY
    """How the hashes of the vectors are computed: a worker of another version must not write other ones."""

    @property
    def are_of_this_version(self) -> bool:
        """Whether the hashes of vectors are those that this version computes."""
        return self.hashed_by == HASHED_BY

    def as_record(self) -> str:
        config = self.config
        at, model = config.at, config.model
        record = {
            "at": [at.schema, at.table, at.id_column, at.embedding_column],
            "text": config.text,
            "model": [model.provider, model.name, model.dimensions, model.task_type, model.too_long.value],
            "modelOptions": {field: getattr(model, field) for field in OPTIONAL_ON_RECORD},
            "changeDetection": config.change_detection.value,
            "maxTextsPerDay": self.limits.texts_per_day,
            "otherLimits": [
                self.limits.tokens_per_day,
                self.limits.cost_per_month,
                self.limits.price_per_million_tokens,
            ],
            "concurrency": self.concurrency,
            "workers": self.workers,
            "hashedBy": self.hashed_by,
        }
        return json.dumps(record, sort_keys=True)

    @classmethod
    def of_record(cls, record: str) -> "BackfillSettings":
        known: Mapping[str, Any] = json.loads(record)
        provider, name, dimensions, task_type, too_long = known["model"]
        config = SourceConfig(
            TableColumn(*known["at"]),
            known["text"],
            Model(provider, name, dimensions, task_type, TooLong(too_long), **known.get("modelOptions", {})),
            ChangeDetection(known["changeDetection"]),
        )
        limits = Limits(known["maxTextsPerDay"], *known.get("otherLimits", ()))
        return cls(config, limits, known["concurrency"], known["workers"], known.get("hashedBy", ""))


@dataclass(frozen=True)
class BackfillRun:
    """One backfill of one table and column, from its beginning to its end."""

    source: str
    """`namespace/name` of the EmbeddingSource."""
    run: str
    """A new one for each backfill, so that its workers notice that another one has begun."""
    settings: BackfillSettings
    total: int
    """Rows that were to be embedded when they were last counted, those that are done included."""
    begun_at: datetime
    ended_at: datetime | None
    paused: bool = False
    """The source is suspended: no worker begins a call."""

    @property
    def bookkeeping(self) -> str:
        return self.settings.config.at.bookkeeping_name

    @property
    def is_active(self) -> bool:
        return self.ended_at is None


@dataclass(frozen=True)
class WorkerReport:
    """What a worker has done. In `report`, since its last report; in `reports`, since the beginning."""

    worker: int
    done: int = 0
    """Rows that need nothing more: embedded, or found up to date, without text, or gone."""
    failed: int = 0
    """Rows that were handed over to jobs, because they have failed."""
    problem: str = ""
    """What prevents it from embedding rows, in a sentence; empty if nothing does."""
    finished: bool = False
    """Nothing is left of its share."""
    reported_s_ago: float = 0.0


class BackfillRecords:
    """The backfills of one database. Raises what Database.transaction raises, if nothing else is said."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run: str, source: str, settings: BackfillSettings, *, total: int) -> BackfillRun:
        """Record a new backfill of a table and column, in place of the one before. Returns that instead where it is active."""
        stem = settings.config.at.bookkeeping_name
        begun = await self._fetch(BEGIN, stem, source, run, settings.as_record(), total)
        return _run_of((begun or await self._fetch(PRESENT, stem))[0])

    async def present(self, bookkeeping: str) -> BackfillRun | None:
        """The last backfill of this table and column, which may have ended; None if there was none."""
        return _first(await self._fetch(PRESENT, bookkeeping))

    async def of_source(self, source: str) -> BackfillRun | None:
        """The active backfill of the source `namespace/name`; None if there is none."""
        return _first(await self._fetch(OF_SOURCE, source))

    async def end(self, run: BackfillRun) -> BackfillRun | None:
        """Record that the backfill has ended. Its workers stop within seconds. Returns what is on record then."""
        await self._fetch(END, run.bookkeeping, run.run)
        return await self.present(run.bookkeeping)

    async def record_total(self, run: BackfillRun, total: int) -> BackfillRun:
        """Record how many rows were counted."""
        await self._fetch(RECORD_TOTAL, run.bookkeeping, run.run, total)
        return replace(run, total=total)

    async def record_paused(self, run: BackfillRun, *, paused: bool) -> BackfillRun:
        """Record whether the source is suspended. Workers begin no other call, or go on, within seconds."""
        await self._fetch(RECORD_PAUSED, run.bookkeeping, run.run, paused)
        return replace(run, paused=paused)

    async def report(self, run: BackfillRun, report: WorkerReport) -> bool:
        """Add what a worker has done since its last report to what is known of it. Returns False while the database is away."""
        counts = (report.worker, report.done, report.failed, report.problem, report.finished)
        try:
            await self._fetch(REPORT, run.bookkeeping, run.run, *counts)
        except (DatabaseUnavailable, RowsLocked) as exc:
            log.warning("progress not reported", error=type(exc).__name__, message=str(exc))
            return False
        return True

    async def reports(self, run: BackfillRun) -> list[WorkerReport]:
        """What each worker has done since the beginning, in the order of their indexes."""
        return [WorkerReport(*row) for row in await self._fetch(REPORTS, run.bookkeeping, run.run)]

    async def _fetch(self, sql: str, *params: object) -> list[Row]:
        async with self._database.transaction() as transaction:
            return await transaction.fetch(sql, *params)


def _first(rows: list[Row]) -> BackfillRun | None:
    return _run_of(rows[0]) if rows else None


def _run_of(row: Row) -> BackfillRun:
    source, run, settings, total, begun_at, ended_at, paused = row
    return BackfillRun(source, run, BackfillSettings.of_record(settings), total, begun_at, ended_at, paused)
