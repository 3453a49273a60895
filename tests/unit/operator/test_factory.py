"""The objects of a process are created from one context: what they share, and where a rotated secret goes."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from embedding_operator import loop_factory
from embedding_operator.api_errors import ApiServerUnusable
from embedding_operator.context import open_context
from embedding_operator.factory import Factory
from embedding_operator.loop_factory import LoopFactory
from embedding_operator.reconciler.window import SMALLEST
from embedding_operator.resources.embedding_job import Phase
from embedding_operator.settings import settings_from
from embedding_operator.tasks import cancel_and_wait
from embedding_worker.batching.batch import Batch
from embedding_worker.batching.batcher import Batcher
from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest, outcome
from embedding_worker.pipeline import RowPipeline
from embedding_worker.providers.provider import Provider, ProviderSetting
from embedding_worker.source import Model
from tests.support.fake_clock import let_time_pass, settle
from tests.support.fake_database import FakeDatabase
from tests.support.fake_provider import FakeEmbedder
from tests.support.operator_parts import Parts, job_of, source

URL = "postgresql://operator@database/app"
KEYED = Provider(
    "keyed",
    lambda model, values: FakeEmbedder(max_texts=len(values["KEYED_API_KEY"])),
    settings=(ProviderSetting("KEYED_API_KEY", "the key", secret=True, required=True),),
)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "yellow-book"}}
    users = [{"name": "u", "user": {"token": "t"}}]
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": users}
    path.write_text(yaml.safe_dump(config | {"current-context": "x"}))
    return path


async def test_a_context_is_opened_without_the_database_or_the_api_server(kubeconfig: Path) -> None:
    settings = settings_from(
        {"DATABASE_URL": "postgresql://operator@127.0.0.1:1/app", "KUBECONFIG": str(kubeconfig)}, providers={}
    )
    async with AsyncExitStack() as stack:
        context = await open_context(settings, stack)
        assert context.server.namespace == "yellow-book"
        assert context.jobs.window.size == SMALLEST


async def test_a_kubeconfig_that_does_not_exist_is_refused_by_its_path(tmp_path: Path) -> None:
    settings = settings_from({"DATABASE_URL": URL, "KUBECONFIG": str(tmp_path / "missing")}, providers={})
    async with AsyncExitStack() as stack:
        with pytest.raises(ApiServerUnusable, match="missing"):
            await open_context(settings, stack)


async def test_finished_jobs_expire_by_the_bounds_of_the_settings() -> None:
    parts = Parts()
    environ = {"DATABASE_URL": URL, "EMBEDDING_MAX_FINISHED_JOBS": "0"}
    factory = Factory(parts.context(environ, database=FakeDatabase()))
    job = parts.put_job(job_of("1", "Bakery", Phase.SUCCEEDED))
    parts.finished.add("c0-1", job.name, version=job.metadata.version, now=parts.clock.monotonic())
    await factory.housekeeping(factory.sources()).expire()
    assert parts.server.stored_jobs == {}


async def test_all_that_starts_work_asks_whether_this_process_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(loop_factory, "SourceSetup", lambda *_, **parts: given.update(parts))
    monkeypatch.setattr(loop_factory, "SourceLoop", lambda *_, **parts: given.update(parts))
    parts = Parts()
    context = parts.context({"DATABASE_URL": URL}, database=FakeDatabase())
    factory = Factory(context)
    LoopFactory(context, factory.peeker).source_loop(source())
    housekeeping, runner = factory.housekeeping(factory.sources()), factory.job_runner(factory.sources())
    replayed = parts.put_job(job_of("1", "Bakery") | {"status": {"phase": Phase.PENDING, "attempts": 6}})

    def may_work() -> set[bool]:
        return {given["shared"].may_work(), given["settings"].may_work()}

    looking = asyncio.create_task(factory.deleted_sources().run())
    await parts.clock.advance(120)
    await housekeeping.turn()
    await runner.run(replayed)
    assert (may_work(), parts.server.requests) == ({False}, [])
    await context.leadership.acquire()
    await runner.run(replayed)
    await housekeeping.turn()
    assert (may_work(), parts.server.count("jobs"), parts.server.count("patch_job_status")) == ({True}, 1, 1)
    await cancel_and_wait(looking)


async def test_a_job_that_succeeds_is_recorded_in_the_metrics() -> None:
    parts = Parts()
    factory = Factory(parts.context({"DATABASE_URL": URL}, database=FakeDatabase()))
    job = parts.put_job(job_of("1", "Bakery"))

    async def embed(batch: Batch[RowRequest, RowOutcome]) -> None:
        for request in batch.items:
            batch.settle(request, outcome(OutcomeKind.EMBEDDED))

    async with Batcher(embed, max_items=1, clock=parts.clock) as batcher:
        parts.queues.open("businesses", cast(RowPipeline, SimpleNamespace(batcher=batcher)))
        await let_time_pass(parts.clock, factory.job_runner(factory.sources()).run(job))
    assert parts.server.stored_jobs[job.name]["status"]["phase"] == "Succeeded"
    page = parts.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
    assert 'job_transitions_total{phase="Succeeded",reason="Embedded",source="businesses"} 1.0' in page


async def test_a_rotated_database_url_moves_the_pool(tmp_path: Path) -> None:
    file = tmp_path / "DATABASE_URL"
    file.write_text(URL)
    parts, database = Parts(), FakeDatabase()
    factory = Factory(parts.context({"DATABASE_URL_FILE": str(file)}, database=database))
    rotation = factory.rotation(factory.sources())
    await rotation.look()
    assert database.urls == []
    file.write_text(f"{URL}?sslmode=require\n")
    await rotation.look()
    assert database.urls == [f"{URL}?sslmode=require"]


async def test_a_rotated_key_reaches_the_provider_and_wakes_the_sources(tmp_path: Path) -> None:
    file = tmp_path / "KEYED_API_KEY"
    file.write_text("old")
    parts, database = Parts(), FakeDatabase(DatabaseUnavailable("connection refused"))
    environ = {"DATABASE_URL": URL, "KEYED_API_KEY_FILE": str(file)}
    context = parts.context(environ, database=database, providers={"keyed": KEYED})
    factory = Factory(context)
    sources = factory.sources()
    sources.observe(source())
    await settle()
    assert database.transactions == 1
    file.write_text("newer")
    await factory.rotation(sources).look()
    await settle()
    assert context.providers.embedder(Model("keyed", "any", 8), source="businesses").max_texts == len("newer")
    assert database.transactions == 2
    await sources.end()
