"""A source with its sweeper, a row store and an API server in memory. Called by the unit tests of the sweep."""

from embedding_operator.reconciler.sweep import Sweeper
from embedding_operator.reconciler.tracked_job import JobState
from embedding_worker.rows.records import LastOutcome
from tests.support.fake_store import FakeStore
from tests.support.operator_parts import FINGERPRINT, SOURCE, Parts, job_of


class SweptSource:
    """A source of these rows with its sweeper. Each row is edited once, and so has a change mark."""

    def __init__(self, texts: dict[str, str] | None = None, *, max_open: int = 500):
        self.parts = Parts(max_open=max_open)
        self.server, self.table, self.clock = self.parts.server, self.parts.table, self.parts.clock
        self.store = FakeStore()
        for row_id, text in (texts or {}).items():
            self.store.edit(row_id, text)
        self.parts.window.record_due(SOURCE, 1_000)
        self.noted: list[tuple[str, LastOutcome]] = []
        """What was noted as the last outcomes of rows."""
        self.hurried: list[tuple[str, str]] = []
        """The ids and hashes of the rows that are to be read soon."""
        self.sweeper = Sweeper(
            SOURCE,
            FINGERPRINT,
            store=self.store,
            server=self.server,
            jobs=self.parts.jobs,
            note=lambda row_id, outcome: self.noted.append((row_id, outcome)),
            hurry=lambda *row: self.hurried.append(row),
            clock=self.clock,
        )

    async def sweep(self) -> None:
        await self.sweeper.sweep()

    def states(self) -> dict[str, JobState]:
        """The state of each business's job."""
        return {job.business_id: job.state for job in self.table.jobs(SOURCE)}

    def created(self) -> list[str]:
        """The business id of every job on the server."""
        return [job["spec"]["businessId"] for job in self.server.stored_jobs.values()]

    def phase(self, row_id: str, text: str) -> str:
        return str(self.server.stored_jobs[name_of(row_id, text)]["status"]["phase"])


def name_of(row_id: str, text: str) -> str:
    return str(job_of(row_id, text)["metadata"]["name"])
