"""One worker of a backfill, in the test's own process: what it waits for, and what it reports meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from embedding_worker.backfill_worker import BackfillWorker
from embedding_worker.clock import SystemClock
from embedding_worker.errors import ProviderThrottled
from embedding_worker.limits import Limits
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.provider import Provider
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.rows.backfills import BackfillRecords, BackfillRun, BackfillSettings, WorkerReport
from embedding_worker.rows.backlog import Share
from embedding_worker.rows.database import Database
from tests.integration.rows.conftest import Keep
from tests.support.deadline import eventually
from tests.support.fake_provider import FakeEmbedder
from tests.support.kept_rows import Application, Keeper, Oracle

ROWS = 25
WITHIN_S = 60.0
REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'closed'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON businesses FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@dataclass
class OneWorker:
    database: Database
    keeper: Keeper
    oracle: Oracle
    run: BackfillRun
    provider: FakeEmbedder = field(default_factory=lambda: FakeEmbedder(max_texts=10))
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[BackfillWorker, "asyncio.Task[None]"]]:
        clock = SystemClock()
        providers = {"fake": Provider("fake", lambda model, values: self.provider)}
        registry = ProviderRegistry(Credentials({}), clock=clock, observer=NoObserver(), providers=providers)
        worker = BackfillWorker(self.database, registry, self.run, Share(0, 1), clock=clock)
        task = asyncio.create_task(worker.run(self.stop))
        try:
            yield worker, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def report(self) -> WorkerReport:
        """What it has reported last."""
        reports = await BackfillRecords(self.database).reports(self.run)
        return reports[0] if reports else WorkerReport(0)

    async def is_done(self, rows: int) -> bool:
        return (await self.report()).done == rows


@pytest.fixture
async def one(businesses: Application, keep: Keep, rows: Database) -> OneWorker:
    businesses.run(f"INSERT INTO businesses (name) SELECT 'name ' || n FROM generate_series(1, {ROWS}) n")
    keeper, oracle = await keep()
    await keeper.audit()
    settings = BackfillSettings(oracle.config, Limits(), concurrency=2, workers=1)
    run = await BackfillRecords(rows).begin("first", "shops/businesses", settings, total=ROWS)
    return OneWorker(rows, keeper, oracle, run)


async def ended(task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(WITHIN_S):
        await task


async def test_it_waits_for_the_first_audit_and_embeds_what_that_still_finds(
    one: OneWorker, businesses: Application
) -> None:
    async with one.running() as (worker, task):
        await eventually(lambda: one.is_done(ROWS), within_s=WITHIN_S, because="the worker reports")
        businesses.run("ALTER TABLE businesses DISABLE TRIGGER USER")
        businesses.run("INSERT INTO businesses (name) SELECT 'late ' || n FROM generate_series(1, 5) n")
        businesses.run("ALTER TABLE businesses ENABLE TRIGGER USER")
        await one.keeper.audit()
        await eventually(lambda: one.is_done(ROWS + 5), within_s=WITHIN_S, because="the audit has found more")
        assert not task.done()
        await one.keeper.store.record_filled()
        await ended(task)
        assert worker.is_over
    assert one.oracle.wrong() == []
    assert (await one.report()).finished


async def test_a_refused_table_is_reported_and_tried_again(one: OneWorker, businesses: Application) -> None:
    await one.keeper.store.record_filled()
    businesses.run(REFUSING)

    async def is_reported() -> bool:
        return "RaiseException" in (await one.report()).problem

    async with one.running() as (worker, task):
        await eventually(is_reported, within_s=WITHIN_S, because="the table refuses every row")
        sent = len(one.provider.calls)
        businesses.run("DROP TRIGGER refuse ON businesses")
        await ended(task)
        assert worker.is_over
    assert sent <= 2
    assert one.oracle.wrong() == []
    assert await one.is_done(ROWS)
    assert (await one.report()).problem == ""


async def test_what_the_provider_prevents_is_reported(one: OneWorker) -> None:
    await one.keeper.store.record_filled()
    one.provider.failures.append(ProviderThrottled("wait a little", retry_after_s=600))

    async def is_reported() -> bool:
        return "wait a little" in (await one.report()).problem

    async with one.running() as (worker, task):
        await eventually(is_reported, within_s=WITHIN_S, because="the provider asks for a pause")
        one.stop.set()
        await ended(task)
        assert not worker.is_over
    assert not (await one.report()).finished


async def test_while_the_source_is_suspended_it_begins_no_other_call_and_then_it_goes_on(one: OneWorker) -> None:
    await one.keeper.store.record_filled()
    records = BackfillRecords(one.database)
    provider, held = one.provider, asyncio.Event()
    provider.held = held

    async def has_paused() -> bool:
        report = await one.report()
        return "spec.suspend" in report.problem and report.done == 20

    async with one.running() as (worker, task):
        await eventually(lambda: len(provider.calls) == 2, within_s=WITHIN_S, because="two calls are in flight")
        await records.record_paused(one.run, paused=True)
        await eventually(lambda: "suspended" in worker.problem, within_s=WITHIN_S, because="the worker looks")
        held.set()
        await eventually(has_paused, within_s=WITHIN_S, because="the calls in flight are written")
        assert (len(provider.calls), task.done()) == (2, False)
        await records.record_paused(one.run, paused=False)
        await ended(task)
        assert worker.is_over
    assert one.oracle.wrong() == []
    report = await one.report()
    assert (report.done, report.problem, report.finished) == (ROWS, "", True)


async def test_it_begins_no_call_where_the_source_is_suspended_already(one: OneWorker) -> None:
    await one.keeper.store.record_filled()
    one.run = await BackfillRecords(one.database).record_paused(one.run, paused=True)

    async def is_reported() -> bool:
        return "spec.suspend" in (await one.report()).problem

    async with one.running() as (worker, task):
        await eventually(is_reported, within_s=WITHIN_S, because="the worker reports")
        one.stop.set()
        await ended(task)
        assert not worker.is_over
    assert one.provider.calls == []


async def test_an_unexpected_error_ends_it(one: OneWorker, businesses: Application) -> None:
    businesses.run("DROP TABLE embedding_operator.backfills CASCADE")
    async with one.running() as (_, task):
        with pytest.raises(Exception, match="backfills"):
            await ended(task)
