"""Processes that share a backfill, by hand and without a cluster: each row is sent once, and a killed process loses nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from embedding_worker.limits import Limits
from embedding_worker.rows.backfills import BackfillRecords, BackfillRun, BackfillSettings
from embedding_worker.rows.database import Database
from embedding_worker.source import Model
from embedding_worker.text import content_hash
from hack.database.postgres import Database as GivenDatabase
from hack.provider_server.faults import FaultKind
from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import hash_of
from hack.provider_server.vectors import fake_vector
from tests.integration.rows.conftest import Keep
from tests.support.backfill_processes import WorkerProcesses
from tests.support.deadline import eventually
from tests.support.kept_rows import Application, Keeper, Oracle

WORKERS, CALLS, TEXTS_IN_A_CALL = 3, 2, 100
GEMINI = Model("gemini", "gemini-embedding-001", 3)
SOURCE = "shops/businesses"
WITHIN_S = 150.0
SLOWED_BY_S = 3.0
"""Each call, where the workers are to be stopped before the last ones, which begin 9 s after the end of the first ones."""


@dataclass
class Backlog:
    """A table whose rows were there before the source, with a backfill on record and nobody who works on it yet."""

    application: Application
    keeper: Keeper
    oracle: Oracle
    records: BackfillRecords
    run: BackfillRun

    def shares(self) -> dict[str, int]:
        """The share of each row that has a mark, by the text of the row."""
        rows = self.application.run(
            f"SELECT b.name, m.seq % {WORKERS} FROM businesses b JOIN {self.keeper.statements.marks} m ON m.id = b.id::text"
        )
        return dict(rows)

    def filled(self) -> int:
        return int(self.application.run("SELECT count(*) FROM businesses WHERE embedding IS NOT NULL")[0][0])

    def outdated(self) -> list[str]:
        """Ids of rows whose vector or book-keeping is not the one of the present text."""
        states, vectors = self.oracle.states(), self.oracle.vectors()
        return sorted(
            row_id
            for row_id, (text, vector) in vectors.items()
            if not is_of(text, vector) or states.get(row_id) != (content_hash(text), GEMINI.fingerprint)
        )


def is_of(text: str, vector: list[float] | None) -> bool:
    """Whether this is the vector of the text, at unit length."""
    expected = np.array(fake_vector(text, 3))
    expected /= np.linalg.norm(expected)
    return vector is not None and bool(np.abs(expected - np.array(vector)).max() < 1e-5)


@pytest.fixture
async def backlog(businesses: Application, keep: Keep, rows: Database) -> Backlog:
    businesses.run("INSERT INTO businesses (name) SELECT 'name ' || n FROM generate_series(1, 3000) n")
    keeper, oracle = await keep(model=GEMINI)
    assert await keeper.audit(page=5000) == 3000
    await keeper.store.record_filled()
    settings = BackfillSettings(oracle.config, Limits(), CALLS, WORKERS)
    records = BackfillRecords(rows)
    return Backlog(businesses, keeper, oracle, records, await records.begin("first", SOURCE, settings, total=3000))


@pytest.fixture
def gemini(tmp_path: Path) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path, latency_ms=700) as server:
        yield server


@pytest.fixture
def workers(gemini: FakeGemini, database: GivenDatabase, tmp_path: Path) -> Iterator[WorkerProcesses]:
    settings = {
        "DATABASE_URL": database.url,
        "GEMINI_API_KEY": gemini.api_key,
        "EMBEDDING_GEMINI_ENDPOINT": gemini.url,
    }
    processes = WorkerProcesses(SOURCE, tmp_path, settings)
    yield processes
    processes.end_all()


@pytest.mark.timeout(700)
async def test_three_processes_share_the_rows_and_a_killed_one_loses_none(
    backlog: Backlog, workers: WorkerProcesses, gemini: FakeGemini
) -> None:
    shares = backlog.shares()
    for index in range(WORKERS):
        workers.start(index)

    def one_is_half_done() -> bool:
        sent = gemini.stats().vectors_by_hash
        return sum(share == 1 and hash_of(text) in sent for text, share in shares.items()) > 300

    await eventually(one_is_half_done, within_s=WITHIN_S, because="the workers run")
    workers.kill(1)
    workers.start(1)
    for index in range(WORKERS):
        assert workers.exit_code(index, within_s=WITHIN_S) == 0, workers.tail(index)
    assert backlog.outdated() == []
    assert backlog.oracle.marks() == []
    sent = gemini.stats().texts_by_hash
    assert {
        text: sent[hash_of(text)] for text, share in shares.items() if share != 1 and sent[hash_of(text)] != 1
    } == {}
    paid_again = [text for text in shares if sent[hash_of(text)] > 1]
    assert len(paid_again) <= CALLS * TEXTS_IN_A_CALL
    reports = await backlog.records.reports(backlog.run)
    assert [(report.worker, report.finished) for report in reports] == [(index, True) for index in range(WORKERS)]
    assert [reports[index].done for index in (0, 2)] == [1000, 1000]
    started = next(event for event in workers.events(2) if event["event"] == "backfill worker started")
    assert (started["source"], started["worker"], started["run"]) == (SOURCE, 2, "first")


@pytest.mark.timeout(600)
async def test_a_row_that_fails_is_handed_over_to_a_job(
    backlog: Backlog, workers: WorkerProcesses, gemini: FakeGemini
) -> None:
    backlog.application.run("DELETE FROM businesses WHERE id > 240")
    backlog.application.run("UPDATE businesses SET name = 'poison' WHERE id = 7")
    marks = backlog.keeper.statements.marks
    backlog.application.run(f"DELETE FROM {marks} WHERE edited")
    gemini.fault("400", only_matching="poison")
    for index in range(WORKERS):
        workers.start(index)
    for index in range(WORKERS):
        assert workers.exit_code(index, within_s=WITHIN_S) == 0, workers.tail(index)
    assert backlog.outdated() == ["7"]
    assert backlog.application.run(f"SELECT id, edited FROM {marks}") == [("7", True)]
    assert sum(report.failed for report in await backlog.records.reports(backlog.run)) == 1


@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["ended", "replaced"])
async def test_workers_stop_within_seconds_of_the_backfills_end(
    backlog: Backlog, workers: WorkerProcesses, gemini: FakeGemini, how: str
) -> None:
    gemini.fault(FaultKind.SLOW, seconds=SLOWED_BY_S)
    for index in range(WORKERS):
        workers.start(index, "--run=first")
    await eventually(lambda: gemini.stats().vectors > 100, within_s=WITHIN_S, because="the workers run")
    await backlog.records.end(backlog.run)
    if how == "replaced":
        await backlog.records.begin("second", SOURCE, backlog.run.settings, total=10)
    assert [workers.exit_code(index) for index in range(WORKERS)] == [0] * WORKERS
    assert backlog.filled() == gemini.stats().vectors < 3000


async def test_after_sigterm_the_calls_in_flight_are_written_and_the_exit_code_is_not_0(
    backlog: Backlog, workers: WorkerProcesses, gemini: FakeGemini
) -> None:
    gemini.fault(FaultKind.SLOW, seconds=SLOWED_BY_S)
    workers.start(0)
    await eventually(lambda: gemini.stats().vectors > 100, within_s=WITHIN_S, because="the worker runs")
    workers.terminate(0)
    assert workers.exit_code(0) == 143, workers.tail(0)
    stats = gemini.stats()
    assert backlog.filled() == stats.vectors == stats.texts < 1000
    (report,) = await backlog.records.reports(backlog.run)
    assert (report.done, report.finished) == (stats.vectors, False)


async def test_without_a_backfill_there_is_nothing_to_do(backlog: Backlog, workers: WorkerProcesses) -> None:
    workers.start(0, "--run=another")
    await backlog.records.end(backlog.run)
    workers.start(1)
    assert [workers.exit_code(index) for index in (0, 1)] == [0, 0]
    assert "there is nothing to do" in workers.tail(0)
