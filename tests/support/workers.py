"""Backfills with workers, for the tests of their Job."""

from datetime import UTC, datetime

from embedding_worker.rows.backfills import BackfillRun, BackfillSettings
from tests.support.kept_rows import source_config


def a_run(run: str = "first", *, workers: int = 3, source: str = "test/businesses") -> BackfillRun:
    settings = BackfillSettings(source_config(), max_texts_per_day=1_000_000, concurrency=4, workers=workers)
    return BackfillRun(source, run, settings, 20_000, datetime(2026, 3, 1, 12, tzinfo=UTC), None)
