"""Backfills with workers, and the template of their Job, for the tests of that Job."""

from datetime import UTC, datetime
from typing import Any

from embedding_worker.limits import Limits
from embedding_worker.rows.backfills import BackfillRun, BackfillSettings
from tests.support.kept_rows import source_config

TEMPLATE: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"labels": {"app.kubernetes.io/instance": "shops"}, "annotations": {"team": "search"}},
    "spec": {
        "backoffLimitPerIndex": 3,
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/component": "backfill-worker"}},
            "spec": {
                "automountServiceAccountToken": False,
                "restartPolicy": "Never",
                "containers": [{"name": "worker", "image": "registry.example/embedding-operator:1"}],
            },
        },
    },
}
"""As the chart renders it, with fewer fields."""


def a_run(run: str = "first", *, workers: int = 3, source: str = "test/businesses") -> BackfillRun:
    settings = BackfillSettings(source_config(), limits=Limits(), concurrency=4, workers=workers)
    return BackfillRun(source, run, settings, 20_000, datetime(2026, 3, 1, 12, tzinfo=UTC), None)
