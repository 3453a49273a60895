"""The backfills on record: what a worker reads is what the operator has written, and progress is added up by worker."""

import json

import pytest

from embedding_worker.limits import Limits
from embedding_worker.rows.backfills import BackfillRecords, BackfillSettings, WorkerReport
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Claim, Owner
from embedding_worker.rows.release import release_owner
from embedding_worker.rows.schema import prepare
from embedding_worker.source import ChangeDetection, Model, TooLong
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, source_config

MODEL = Model(
    "fake",
    "one",
    3,
    "RETRIEVAL_DOCUMENT",
    TooLong.REFUSE,
    endpoint="http://tei/v1",
    api_key_ref="team-b/key",
    origin="tei/v1",
    same_vectors_as="one@3@old/v1",
)
LIMITS = Limits(50, tokens_per_day=900, cost_per_month=20.5, price_per_million_tokens=0.15)
CONFIG = source_config(model=MODEL, detection=ChangeDetection.AUDIT, text="name || '%'")
SETTINGS = BackfillSettings(CONFIG, LIMITS, 4, 3)


@pytest.fixture
async def records(businesses: Application, keep: Keep, rows: Database) -> BackfillRecords:
    await keep()
    return BackfillRecords(rows)


async def test_a_worker_reads_what_was_recorded(records: BackfillRecords) -> None:
    begun = await records.begin("first", "shops/businesses", SETTINGS, total=20_000)
    assert (begun.settings, begun.total, begun.run, begun.is_active) == (SETTINGS, 20_000, "first", True)
    assert await records.of_source("shops/businesses") == begun
    assert await records.present(begun.bookkeeping) == begun
    assert await records.of_source("shops/other") is None


async def test_a_backfill_that_an_earlier_version_has_recorded_has_its_limit_of_texts(records: BackfillRecords) -> None:
    record = json.loads(SETTINGS.as_record())
    del record["otherLimits"]
    assert BackfillSettings.of_record(json.dumps(record)).limits == Limits(50)


async def test_a_backfill_that_has_ended_is_not_worked_on_but_still_known(records: BackfillRecords) -> None:
    begun = await records.begin("first", "shops/businesses", SETTINGS, total=20_000)
    ended = await records.end(begun)
    assert ended is not None
    assert ended.ended_at is not None
    assert await records.of_source("shops/businesses") is None
    assert await records.present(begun.bookkeeping) == ended
    assert await records.end(begun) == ended


async def test_progress_is_added_up_by_worker_also_after_a_restart(records: BackfillRecords) -> None:
    begun = await records.begin("first", "shops/businesses", SETTINGS, total=20_000)
    for report in (WorkerReport(0, 10, 1), WorkerReport(1, 7), WorkerReport(0, 5, 0, "waits", finished=True)):
        await records.report(begun, report)
    reports = await records.reports(begun)
    assert [(one.worker, one.done, one.failed, one.problem, one.finished) for one in reports] == [
        (0, 15, 1, "waits", True),
        (1, 7, 0, "", False),
    ]
    assert all(0 <= one.reported_s_ago < 60 for one in reports)


async def test_a_worker_of_an_earlier_backfill_reports_nothing_about_the_present_one(records: BackfillRecords) -> None:
    earlier = await records.begin("first", "shops/businesses", SETTINGS, total=20_000)
    await records.report(earlier, WorkerReport(0, 10))
    await records.end(earlier)
    present = await records.begin("second", "shops/businesses", SETTINGS, total=5)
    assert await records.reports(present) == []
    await records.report(earlier, WorkerReport(0, 10))
    await records.report(present, WorkerReport(0, 2))
    assert [(one.worker, one.done) for one in await records.reports(present)] == [(0, 2)]
    assert (await records.record_total(present, 9)).total == 9


async def test_an_active_backfill_is_not_replaced_by_another(records: BackfillRecords) -> None:
    first = await records.begin("first", "shops/businesses", SETTINGS, total=20_000)
    assert await records.begin("second", "shops/businesses", SETTINGS, total=5) == first


async def test_a_backfill_ends_with_its_source(businesses: Application, rows: Database) -> None:
    owner = Owner("shops", "businesses", "uid-1", "cluster")
    await prepare(rows, SETTINGS.config, Claim(owner))
    records = BackfillRecords(rows)
    await records.begin("first", "shops/businesses", SETTINGS, total=20_000)
    await release_owner(rows, owner)
    assert await records.of_source("shops/businesses") is None


async def test_a_worker_reads_that_the_source_is_suspended(records: BackfillRecords) -> None:
    begun = await records.begin("first", "shops/businesses", SETTINGS, total=20_000)
    assert not begun.paused
    assert (await records.record_paused(begun, paused=True)).paused
    assert (await records.present(begun.bookkeeping) or begun).paused
    await records.end(begun)
    assert not (await records.begin("second", "shops/businesses", SETTINGS, total=5)).paused
    await records.record_paused(begun, paused=True)
    assert await records.of_source("shops/businesses") == await records.present(begun.bookkeeping)
    assert not (await records.present(begun.bookkeeping) or begun).paused, "an earlier backfill is not the present one"


async def test_a_table_of_backfills_from_before_gets_the_column(
    businesses: Application, keep: Keep, rows: Database
) -> None:
    await keep()
    businesses.run("ALTER TABLE embedding_operator.backfills DROP COLUMN paused")
    await keep()
    assert not (await BackfillRecords(rows).begin("first", "shops/businesses", SETTINGS, total=1)).paused
