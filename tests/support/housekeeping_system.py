"""Housekeeping with registers and an API server in memory. Called by the unit tests of housekeeping."""

from embedding_operator.reconciler.housekeeping import Expiry, Housekeeping
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION, Phase
from embedding_operator.resources.embedding_source import EmbeddingSource
from tests.support.fake_api_server import FakeApiServer
from tests.support.manifests import a_source, merged
from tests.support.operator_parts import SOURCE, Parts, job_of


class RecordedSources(Sources):
    """Records what it is notified of, and runs nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.observed: list[str] = []
        self.deleted: list[str] = []
        self.gained = 0

    def room_gained(self) -> None:
        self.gained += 1

    def observe(self, source: EmbeddingSource, *, known_before: EmbeddingSource | None = None) -> None:
        self._parts.catalog.put(source)
        self.observed.append(source.name)

    def observe_listed(
        self, source: EmbeddingSource, *, known_before: EmbeddingSource | None, listed_at: float
    ) -> None:
        self.observe(source)

    def observe_deleted(self, name: str, *, uid: str | None = None) -> None:
        self._parts.catalog.remove(name)
        self.deleted.append(name)


class HousekeepingSystem:
    def __init__(self, *, max_finished: int = 1_000, age_s: float = 600, server: FakeApiServer | None = None) -> None:
        self.parts = Parts(server=server)
        self.server, self.table, self.clock = self.parts.server, self.parts.table, self.parts.clock
        self.sources = RecordedSources(self.parts)
        self.leads = True
        self.housekeeping = Housekeeping(
            self.server,
            self.sources,
            catalog=self.parts.catalog,
            jobs=self.parts.jobs,
            expiry=Expiry(max_finished, age_s),
            clock=self.clock,
            may_work=lambda: self.leads,
        )

    def finish(self, row_id: str, *, cohort: str = "c0-1") -> None:
        """The row's job succeeds now."""
        job = self.parts.put_job(job_of(row_id, "Bakery", Phase.SUCCEEDED, cohort=cohort))
        now = self.clock.monotonic()
        self.parts.finished.add(cohort, job.name, version=job.metadata.version, now=now)

    def put_source(self, name: str = SOURCE) -> None:
        self.server.put_source(merged(a_source(name), {"metadata": {"uid": f"uid of {name}"}}))

    def rows_with_jobs(self) -> list[str]:
        return [job["spec"]["businessId"] for job in self.server.stored_jobs.values()]

    def touched(self, row_id: str) -> str | None:
        (job,) = [job for job in self.server.stored_jobs.values() if job["spec"]["businessId"] == row_id]
        annotation: str | None = job["metadata"].get("annotations", {}).get(TOUCHED_ANNOTATION)
        return annotation
