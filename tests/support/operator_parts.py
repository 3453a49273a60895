"""The objects that parts of the operator share, with a fake clock and a fake API server. Called by unit tests of the operator."""

from collections.abc import Mapping
from typing import Any

from embedding_operator.context import Context
from embedding_operator.event_poster import EventPoster
from embedding_operator.leadership import Leadership
from embedding_operator.lifecycle.events import Event
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.reconciler.row_queues import RowQueues
from embedding_operator.reconciler.window import Window
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase, job_name, parse_job
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_source
from embedding_operator.settings import settings_from
from embedding_worker.providers.provider import Provider
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.database import Database
from embedding_worker.text import content_hash
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import FakeClock
from tests.support.manifests import Json, a_job, a_source, merged

SOURCE = "businesses"
FINGERPRINT = "any@8"
COHORT_LABEL = "embeddings.yellowbook.dev/cohort"


class RecordedEvents(EventPoster):
    """Records Events, and sends none."""

    def __init__(self) -> None:
        self.emitted: list[Event] = []

    def emit(self, event: Event) -> None:
        self.emitted.append(event)


class Parts:
    """Empty registers, a fake clock and a fake API server, from which a test creates the object under test."""

    def __init__(self, *, server: FakeApiServer | None = None, max_open: int = 500, max_finished: int = 500) -> None:
        self.clock = FakeClock()
        self.server = server or FakeApiServer()
        self.server.clock = self.clock
        self.finished = FinishedJobs("c0")
        self.table = JobTable(self.finished, clock=self.clock)
        self.window = Window(self.table, self.finished, max_open=max_open, max_finished=max_finished, clock=self.clock)
        self.jobs = JobRegisters(self.table, self.finished, self.window)
        self.catalog = SourceCatalog()
        self.queues = RowQueues(self.catalog, clock=self.clock)
        self.metrics = Metrics(clock=self.clock)
        self.events = RecordedEvents()

    def context(
        self, environ: Mapping[str, str], *, database: Database, providers: Mapping[str, Provider] | None = None
    ) -> Context:
        """The context of a process with these settings."""
        known = providers or {}
        settings = settings_from(environ, providers=known)
        registry = ProviderRegistry(settings.credentials(), clock=self.clock, observer=self.metrics, providers=known)
        return Context(
            settings,
            self.clock,
            self.server,
            database,
            self.metrics,
            self.events,
            registry,
            self.jobs,
            self.catalog,
            self.queues,
            Leadership(self.server, identity="operator-1", clock=self.clock),
        )

    def put_job(self, body: Json) -> EmbeddingJob:
        """Store this job in the API server, but not in the job table."""
        return parse_job(self.server.put_job(body))

    def track(self, body: Json) -> EmbeddingJob:
        """Store this job in the API server, and have the job table observe it."""
        job = self.put_job(body)
        self.table.observe(job)
        return job


def source(
    name: str = SOURCE, *, uid: str = "uid-1", generation: int = 1, version: int = 1, **spec: Any
) -> EmbeddingSource:
    """A source as the API server returns it."""
    metadata = {"uid": uid, "generation": generation, "resourceVersion": str(version)}
    return parse_source(merged(a_source(name, **spec), {"metadata": metadata}))


def requesting(shown: EmbeddingSource, token: str) -> EmbeddingSource:
    """The same source, with a request to reconcile."""
    annotations = {"reconcile.embeddings.yellowbook.dev/requestedAt": token}
    return shown.model_copy(update={"metadata": shown.metadata.model_copy(update={"annotations": annotations})})


def job_of(row_id: str, text: str, phase: Phase = Phase.PENDING, *, of: str = SOURCE, cohort: str = "c0-1") -> Json:
    """The job that the sweep creates for this row and text, in this phase."""
    digest = content_hash(text)
    name = job_name(source=of, business_id=row_id, content_hash=digest, fingerprint=FINGERPRINT)
    spec = {"sourceRef": {"name": of}, "businessId": row_id, "contentHash": digest, "fingerprint": FINGERPRINT}
    return a_job(name, labels={COHORT_LABEL: cohort}, **spec) | {"status": {"phase": phase, "attempts": 0}}
