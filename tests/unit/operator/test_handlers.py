"""Which events of the watches reach the job runner and the sources, by kopf's own processing."""

from typing import cast

import pytest

from embedding_operator.api_server import ApiServer
from embedding_operator.handlers.kopf_setup import make_registry
from embedding_operator.reconciler.job_runner import JobRunner
from embedding_operator.reconciler.pauses import Pauses
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase, parse_job
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_source
from embedding_worker.clock import SystemClock
from tests.support.jobs import job_body
from tests.support.kopf_events import KopfSide
from tests.support.manifests import Json, a_source, merged, without


class FakeRunner:
    def __init__(self) -> None:
        self.ran: list[EmbeddingJob] = []
        self.error: Exception | None = None

    async def run(self, job: EmbeddingJob) -> None:
        self.ran.append(job)
        if self.error is not None:
            raise self.error


class FakePauses:
    def __init__(self) -> None:
        self.held: set[str] = set()
        """The names of the jobs that are to wait."""

    def holds(self, job: EmbeddingJob) -> bool:
        return job.name in self.held


class FakeSources:
    def __init__(self) -> None:
        self.observed: list[EmbeddingSource] = []
        self.deleted: list[tuple[str, str | None]] = []

    def observe(self, source: EmbeddingSource) -> None:
        self.observed.append(source)

    def observe_deleted(self, name: str, *, uid: str | None = None) -> None:
        self.deleted.append((name, uid))


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runner, self.sources, self.pauses = FakeRunner(), FakeSources(), FakePauses()
        sources, runner, pauses = cast(Sources, self.sources), cast(JobRunner, self.runner), cast(Pauses, self.pauses)
        registry = make_registry(cast(ApiServer, None), sources, runner, pauses, clock=SystemClock())
        self.kopf = KopfSide(registry, monkeypatch)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def source_body() -> Json:
    body = a_source("shops")
    body["metadata"] |= {"namespace": "test", "uid": "uid-1", "resourceVersion": "7"}
    return body


# Jobs.


@pytest.mark.parametrize("kind", [None, "ADDED", "MODIFIED"])
@pytest.mark.parametrize("phase", [None, Phase.PENDING, Phase.RETRYING])
async def test_every_event_of_an_open_job_runs_it(world: World, phase: Phase | None, kind: str | None) -> None:
    body = job_body("1", phase)
    await world.kopf.event(body, kind)
    assert world.runner.ran == [parse_job(body)]


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED, Phase.DEAD_LETTERED])
async def test_a_job_that_is_over_is_not_run(world: World, phase: Phase) -> None:
    await world.kopf.event(job_body("1", phase))
    assert world.runner.ran == []


async def test_a_job_that_was_deleted_is_not_run(world: World) -> None:
    await world.kopf.event(job_body("1"), "DELETED")
    assert world.runner.ran == []


async def test_a_job_that_waits_for_its_deletion_is_not_run(world: World) -> None:
    body = merged(job_body("1"), {"metadata": {"deletionTimestamp": "2026-03-01T12:00:00Z", "finalizers": ["any"]}})
    await world.kopf.event(body)
    assert (world.runner.ran, world.kopf.patches) == ([], [])


async def test_a_job_in_its_pause_is_not_run(world: World) -> None:
    body = job_body("1", Phase.RETRYING, version=5)
    world.pauses.held.add(body["metadata"]["name"])
    await world.kopf.event(body)
    assert (world.runner.ran, world.kopf.patches) == ([], [])
    world.pauses.held.clear()
    await world.kopf.event(body)
    assert world.runner.ran == [parse_job(body)]


async def test_an_unexpected_error_of_one_event_ends_nothing_and_the_next_one_runs_the_job_again(world: World) -> None:
    world.runner.error = RuntimeError("a bug")
    for version in (5, 6):
        await world.kopf.event(job_body("1", version=version))
    assert [job.metadata.version for job in world.runner.ran] == [5, 6]
    assert world.kopf.patches == []


async def test_each_event_of_a_job_runs_it_again(world: World) -> None:
    for version in (5, 6, 7):
        await world.kopf.event(job_body("1", version=version))
    assert [job.metadata.version for job in world.runner.ran] == [5, 6, 7]


async def test_kopf_itself_patches_nothing_in_a_job_that_was_run(world: World) -> None:
    await world.kopf.event(job_body("1"), "ADDED")
    assert world.kopf.patches == []


@pytest.mark.parametrize("broken", ["spec.contentHash", "spec"])
async def test_a_job_that_this_version_does_not_understand_is_left_alone(world: World, broken: str) -> None:
    await world.kopf.event(without(job_body("1"), broken))
    assert (world.runner.ran, world.kopf.patches) == ([], [])


# Sources.


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
async def test_every_event_of_a_source_is_observed(world: World, kind: str) -> None:
    await world.kopf.event(source_body(), kind)
    assert world.sources.observed == [parse_source(source_body())]
    assert (world.sources.deleted, world.kopf.patches) == ([], [])


async def test_a_source_that_was_deleted_is_observed_with_its_uid(world: World) -> None:
    await world.kopf.event(source_body(), "DELETED")
    assert (world.sources.observed, world.sources.deleted) == ([], [("shops", "uid-1")])


async def test_a_source_that_this_version_does_not_understand_is_left_alone(world: World) -> None:
    await world.kopf.event(without(source_body(), "spec.table"))
    assert (world.sources.observed, world.sources.deleted) == ([], [])


async def test_the_deletion_of_a_source_that_is_not_understood_is_observed(world: World) -> None:
    await world.kopf.event(without(source_body(), "spec.table"), "DELETED")
    assert world.sources.deleted == [("shops", "uid-1")]
