"""The life of the workers' Job: created once, replaced when it is outdated or has failed, removed at the end; it never raises."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused
from embedding_operator.reconciler.backfill_workers import WorkersNotEnabled
from embedding_operator.reconciler.workers_job import LOOK_EVERY_S, START_AGAIN_AFTER_S, WorkersJob, make_workers
from embedding_operator.resources.embedding_source import parse_source
from embedding_operator.resources.workers_job import RUN_ANNOTATION, job_name
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import FakeClock
from tests.support.manifests import a_source
from tests.support.workers import TEMPLATE, a_run

BODY = a_source("businesses")
BODY["metadata"] |= {"uid": "uid-1", "namespace": "test"}
SOURCE = parse_source(BODY)
NAME = job_name("businesses")
FIRST, SECOND = a_run("first"), a_run("second", workers=5)


@pytest.fixture
def server() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(TEMPLATE))
    return path


@pytest.fixture
def workers(server: FakeApiServer, template: Path, clock: FakeClock) -> WorkersJob:
    return WorkersJob(SOURCE, server, template, clock=clock)


def job(server: FakeApiServer) -> Any:
    return server.worker_jobs[NAME]


def run_of(server: FakeApiServer) -> str:
    return str(job(server)["metadata"]["annotations"][RUN_ANNOTATION])


async def test_it_is_created_once_and_looked_at_every_ten_seconds(
    workers: WorkersJob, server: FakeApiServer, clock: FakeClock
) -> None:
    for _ in range(10):
        await workers.ensure(FIRST)
        await clock.advance(2)
    assert (server.count("POST worker job"), server.count("GET worker job")) == (1, 2)
    assert workers.problem is None


async def test_a_deleted_job_is_created_again(workers: WorkersJob, server: FakeApiServer, clock: FakeClock) -> None:
    await workers.ensure(FIRST)
    del server.worker_jobs[NAME]
    await clock.advance(LOOK_EVERY_S)
    await workers.ensure(FIRST)
    assert run_of(server) == "first"


async def test_the_job_of_an_earlier_backfill_is_replaced(
    workers: WorkersJob, server: FakeApiServer, template: Path, clock: FakeClock
) -> None:
    await workers.ensure(FIRST)
    after_a_restart = WorkersJob(SOURCE, server, template, clock=clock)
    for _ in range(2):
        await after_a_restart.ensure(SECOND)
    assert run_of(server) == "second"
    assert job(server)["spec"]["completions"] == 5


async def test_a_complete_job_is_created_again_while_rows_are_left(
    workers: WorkersJob, server: FakeApiServer, clock: FakeClock
) -> None:
    await workers.ensure(FIRST)
    job(server)["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    await clock.advance(LOOK_EVERY_S)
    for _ in range(2):
        await workers.ensure(FIRST)
    assert "status" not in job(server)


async def test_a_job_that_has_failed_says_so_and_is_started_again_after_five_minutes(
    workers: WorkersJob, server: FakeApiServer, clock: FakeClock
) -> None:
    await workers.ensure(FIRST)
    job(server)["status"] = {"failedIndexes": "2", "conditions": [{"type": "Failed", "status": "True"}]}
    while clock.monotonic() < 1_000 + START_AGAIN_AFTER_S:
        await clock.advance(LOOK_EVERY_S)
        await workers.ensure(FIRST)
        assert workers.problem is not None
        assert workers.problem[0] == "WorkersFailed"
    for _ in range(3):
        await clock.advance(LOOK_EVERY_S)
        await workers.ensure(FIRST)
    assert workers.problem is None
    assert server.count("POST worker job") == 2


async def test_it_is_removed_once_with_its_pods(workers: WorkersJob, server: FakeApiServer) -> None:
    await workers.ensure(FIRST)
    for _ in range(3):
        await workers.remove()
    assert server.worker_jobs == {}
    assert server.count("DELETE worker job") == 1
    requests = len(server.requests)
    await workers.remove()
    assert len(server.requests) == requests


async def test_it_is_created_again_after_a_removal(workers: WorkersJob, server: FakeApiServer) -> None:
    await workers.ensure(FIRST)
    await workers.remove()
    await workers.ensure(FIRST)
    assert run_of(server) == "first"


async def test_a_job_of_somebody_else_is_neither_replaced_nor_removed(
    workers: WorkersJob, server: FakeApiServer
) -> None:
    server.worker_jobs[NAME] = {"metadata": {"name": NAME}, "spec": {}}
    await workers.ensure(FIRST)
    assert workers.problem == (
        "WorkersRefused",
        f"there is a Job {NAME} that is not the operator's: rename or delete it",
    )
    await workers.remove()
    assert NAME in server.worker_jobs


async def test_a_refusal_is_said_and_tried_again(workers: WorkersJob, server: FakeApiServer, clock: FakeClock) -> None:
    server.fail("POST worker job", RequestRefused("exceeded quota: jobs"))
    await workers.ensure(FIRST)
    assert workers.problem is not None
    assert "exceeded quota: jobs" in workers.problem[1]
    await clock.advance(LOOK_EVERY_S)
    await workers.ensure(FIRST)
    assert workers.problem is None
    assert run_of(server) == "first"


async def test_an_outage_of_the_api_server_is_waited_for(
    workers: WorkersJob, server: FakeApiServer, clock: FakeClock
) -> None:
    server.fail("GET worker job", ApiServerUnreachable("away"))
    await workers.ensure(FIRST)
    assert (workers.problem, server.worker_jobs) == (None, {})
    await clock.advance(LOOK_EVERY_S)
    await workers.ensure(FIRST)
    assert run_of(server) == "first"


async def test_a_removal_that_did_not_reach_the_api_server_is_tried_again(
    workers: WorkersJob, server: FakeApiServer
) -> None:
    await workers.ensure(FIRST)
    server.fail("GET worker job", ApiServerUnreachable("away"))
    await workers.remove()
    await workers.remove()
    assert server.worker_jobs == {}


@pytest.fixture(params=["", "a: [", "spec: {}", None], ids=["empty", "no YAML", "no pod", "missing"])
def unusable(template: Path, request: pytest.FixtureRequest) -> Path:
    template.unlink()
    if request.param is not None:
        template.write_text(request.param)
    return template


async def test_a_template_that_cannot_be_used_is_named(workers: WorkersJob, unusable: Path) -> None:
    await workers.ensure(FIRST)
    assert workers.problem is not None
    assert f"EMBEDDING_BACKFILL_POD_TEMPLATE_FILE is {unusable}" in workers.problem[1]
    assert "backfill.workers.enabled" in workers.problem[1]


def test_without_a_template_workers_are_not_enabled(server: FakeApiServer, template: Path, clock: FakeClock) -> None:
    assert isinstance(make_workers(SOURCE, server=server, template=None, clock=clock), WorkersNotEnabled)
    assert isinstance(make_workers(SOURCE, server=server, template=template, clock=clock), WorkersJob)
