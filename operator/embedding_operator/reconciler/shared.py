"""What all sources of this process share: database, API server, settings, and what is known of jobs. Made by the process."""

import time
from dataclasses import dataclass, field

from embedding_operator.api_server import ApiServer
from embedding_operator.event_poster import EventPoster
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler import window
from embedding_operator.reconciler.expiry import Cohorts
from embedding_operator.reconciler.open_jobs import OpenJobs
from embedding_operator.settings import Settings
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.database import Database


@dataclass
class Shared:
    """What all sources of this process share."""

    database: Database
    server: ApiServer
    settings: Settings
    registry: ProviderRegistry
    metrics: Metrics
    events: EventPoster
    jobs: OpenJobs
    cohorts: Cohorts
    throughput: window.Throughput = field(default_factory=window.Throughput)
    due_by_source: dict[str, int] = field(default_factory=dict)
    idle: set[str] = field(default_factory=set)
    """Sources whose open jobs can't be worked on at the moment: they take no part of the window."""

    def window(self) -> int:
        """How many jobs may be open now, in all sources."""
        return window.size(self.settings.max_open_jobs, per_s=self.throughput.per_s(time.monotonic()))

    def forget(self, source: str) -> None:
        """The source is gone."""
        self.idle.discard(source)
        self.jobs.forget(source)
        self.due_by_source.pop(source, None)
        self.metrics.forget(source)
