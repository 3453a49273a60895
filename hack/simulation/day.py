"""Runs a simulated day: each row that becomes due passes through the operator's own modules until its job has an end.

These are the real row queues, batchers, row embedders, provider calls and registry, and the real decisions about a job's status
and its pauses. There is no API server and no database: a job is a status in memory, and the rows are in memory too.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, cast

import structlog

from embedding_operator.lifecycle.job_status import FAILURES, JobPatch, settled
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.row_queues import ProviderNotCallable, RowQueues
from embedding_operator.resources.base import Metadata
from embedding_operator.resources.embedding_job import EmbeddingJob, JobSpec, Phase, SourceRef
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.limits import Limits
from embedding_worker.outcome import RowOutcome, RowRequest
from embedding_worker.pipeline import make_pipeline
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.rows.store import RowStore
from embedding_worker.source import Model, TooLong
from hack.simulation.provider import NAME, SimulatedEmbedder, registered
from hack.simulation.report import Report
from hack.simulation.rows import SOURCES, MemoryRows, SimulatedRow, rows_of_a_day
from hack.simulation.virtual_time import VirtualClock, run_in_virtual_time
from hack.simulation.weather import A_DAY, DAY_S

WINDOW = 500
"""Jobs that are worked on at the same time, at most as many as in the operator."""
MOST_OPEN = 1_000
"""These, and the jobs that wait for the provider or for their next attempt."""
GIVEN_UP_S = 2 * DAY_S
NO_LIMIT = Limits(1_000_000_000)
MODEL = Model(NAME, "any", 2)


class DefectFound(Exception):
    """The operator has logged an error: it never does because of a provider."""


def simulate(rows: int, *, seed: int = 1, hours: int = 24) -> Report:
    """A day of provider weather, or its first hours, over so many rows. Raises DefectFound.

    The same seed gives the same report.
    """
    random.seed(seed)  # the operator's own jitter
    began_s = time.process_time()
    with no_errors_logged():
        report = run_in_virtual_time(Day(rows, seed, hours).run())
    report.cpu_s = time.process_time() - began_s
    return report


@dataclass
class Job:
    """A row's job, with the status that the API server would store."""

    row: SimulatedRow
    status: dict[str, Any] = field(default_factory=dict)

    def parsed(self) -> EmbeddingJob:
        row = self.row
        spec = JobSpec(
            source_ref=SourceRef(name=row.source), business_id=row.id, content_hash=row.content_hash, fingerprint="any"
        )
        return EmbeddingJob.model_validate({"metadata": Metadata(name=row.id), "spec": spec, "status": self.status})


class Day:
    def __init__(self, rows: int, seed: int, hours: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - no secret is made of it
        self._rows = rows_of_a_day(rows, chance, hours=hours)
        self._clock = VirtualClock()
        self._provider = SimulatedEmbedder(A_DAY, self._clock, chance)
        self._store = MemoryRows({row.id: row for row in self._rows})
        self._catalog = SourceCatalog()
        self._queues = RowQueues(self._catalog, clock=self._clock)
        self._window = asyncio.Semaphore(WINDOW)
        self._open = asyncio.Semaphore(MOST_OPEN)
        self._report = Report(self._rows, self._store.vectors, counts=self._provider.counts)

    async def run(self) -> Report:
        """Returns when each row has its end, or after two days."""
        async with AsyncExitStack() as pipelines:
            await self._open_sources(pipelines)
            with suppress(TimeoutError):  # what has no end yet is not fresh
                async with asyncio.timeout(GIVEN_UP_S), asyncio.TaskGroup() as lives:
                    await self._create_jobs(lives)
            self._report.ended_s = self._clock.monotonic()
        return self._report

    async def _create_jobs(self, lives: asyncio.TaskGroup) -> None:
        """One for each row, when it is due and the window has a place."""
        for row in self._rows:
            await self._clock.sleep(max(0.0, row.due_s - self._clock.monotonic()))
            await self._open.acquire()
            await self._window.acquire()
            lives.create_task(self._live(Job(row)))

    async def _open_sources(self, pipelines: AsyncExitStack) -> None:
        """Sources that use the same key. Their pipelines end with the stack."""
        registry = ProviderRegistry(
            Credentials({}), clock=self._clock, observer=NoObserver(), providers=registered(self._provider)
        )
        for name in SOURCES:
            self._catalog.put(parse_source(_manifest(name)))
            pipeline = make_pipeline(
                cast(RowStore, self._store),
                registry.embedder(MODEL, source=name),
                too_long=TooLong.TRUNCATE,
                limits=NO_LIMIT,
                clock=self._clock,
            )
            await pipelines.enter_async_context(pipeline.running(probes=True))
            self._queues.open(name, pipeline)

    async def _live(self, job: Job) -> None:
        """From the window to the end, with pauses outside of the window between the attempts."""
        while (patch := await self._attempt(job)).phase is Phase.RETRYING:
            self._window.release()
            not_before = datetime.fromisoformat(patch.status["nextAttemptTime"])
            await self._clock.sleep((not_before - self._clock.now()).total_seconds())
            await self._window.acquire()
        self._window.release()
        self._open.release()
        if patch.phase is Phase.DEAD_LETTERED:
            self._report.dead_letters[job.row.id] = patch.status["reason"]

    async def _attempt(self, job: Job) -> JobPatch:
        row, started = job.row, self._clock.now()
        outcome = await self._outcome(row)
        patch = settled(
            outcome,
            job.parsed(),
            policy=self._catalog.retry_policy(row.source),
            started=started,
            now=self._clock.now(),
            jitter=random.random(),  # noqa: S311 - no secret is made of it
        )
        job.status |= patch.status
        self._count(row, outcome)
        return patch

    async def _outcome(self, row: SimulatedRow) -> RowOutcome:
        """As the job runner gets it: a row that is postponed waits outside of the window."""
        request = RowRequest(row.id, row.content_hash)
        while True:
            try:
                outcome = await self._queues.submit(row.source, request, urgent=row.due_s > 0)
            except ProviderNotCallable as exc:
                self._window.release()
                await exc.wait_until_callable(asyncio.Event(), urgent=False)
                await self._window.acquire()
            else:
                assert outcome is not None, "no source is ever removed"
                return outcome

    def _count(self, row: SimulatedRow, outcome: RowOutcome) -> None:
        if outcome.kind in FAILURES and not row.poison:
            self._report.attempts[self._provider.weather.name] += 1
            self._report.attempts_by_row[row.id] += 1


def _manifest(name: str) -> dict[str, Any]:
    model = {"provider": NAME, "name": MODEL.name, "dimensions": MODEL.dimensions}
    spec = {"table": f"public.{name}", "idColumn": "id", "text": "name", "model": model}
    return {"metadata": {"name": name}, "spec": spec}


@contextmanager
def no_errors_logged() -> Iterator[None]:
    """Raises DefectFound where the operator logs an error. Nothing else of the log is kept."""

    def drop(logger: object, method: str, event: Any) -> NoReturn:
        if method in ("error", "exception", "critical"):
            raise DefectFound(str(event["event"]))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[drop])
    try:
        yield
    finally:
        structlog.configure(**before)
