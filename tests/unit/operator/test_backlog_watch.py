"""What a source's status, its Events and its metrics say of a backfill, and of a large backlog whose rows get jobs."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from embedding_worker.limits import Limits
from embedding_worker.rows import index_advice
from embedding_worker.rows.backfills import BackfillSettings, WorkerReport
from embedding_worker.rows.index_advice import IndexFacts, VectorIndex
from embedding_worker.rows.records import Used
from tests.support.looped_source import LoopedSource
from tests.support.operator_parts import source
from tests.unit.operator.test_metrics import value

ROWS = 20
AUTO = {"mode": "Auto", "threshold": 10}
INDEX = VectorIndex("public.near", "hnsw", "CREATE INDEX near ON public.businesses USING hnsw (embedding)")


def looped(rows: int = ROWS, **spec: Any) -> LoopedSource:
    """A source whose rows were there before it, so that only its audit makes them due."""
    return LoopedSource({str(n): f"name {n}" for n in range(rows)}, shown=source(**spec))


def events(system: LoopedSource) -> list[str]:
    return [event.reason for event in system.parts.events.emitted if event.reason not in ("Ready", "ProviderReady")]


async def test_a_backfill_has_an_event_at_its_begin_and_at_its_end() -> None:
    system = looped(backfill=AUTO)
    async with system.running():
        await system.clock.advance(60)
        assert events(system) == ["BackfillStarted", "BackfillCompleted"]
        assert system.condition("Backfilling")[:2] == ("False", "Completed")


async def test_a_backfill_is_in_the_metrics() -> None:
    system = looped(backfill=AUTO)
    async with system.running():
        await system.clock.advance(60)
    metrics = system.parts.metrics
    assert value(metrics, "backfill_active", source="businesses") == 0
    assert value(metrics, "backfill_done_rows", source="businesses") == ROWS


async def test_the_counts_of_a_backfill_that_has_ended_are_still_known_after_a_restart() -> None:
    system = looped(0, backfill=AUTO)
    records = system.store.backlog.records
    settings = BackfillSettings(system.shown.spec.config(), Limits(), 4, 0)
    run = await records.begin("before", "here/businesses", settings, total=ROWS)
    await records.report(run, WorkerReport(0, ROWS - 1, 1))
    await records.end(run)
    async with system.running():
        await system.clock.advance(1)
        assert system.status["backfill"]["progress"] == f"{ROWS - 1}/{ROWS}"
        assert system.status["backfill"]["failed"] == 1


@pytest.fixture
def many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """These few rows are as many as make an index worth advice."""
    monkeypatch.setattr(index_advice, "MANY_ROWS", ROWS)


@pytest.mark.usefixtures("many_rows")
async def test_an_index_is_to_be_dropped_when_a_large_backfill_begins() -> None:
    system = looped(backfill=AUTO)
    system.store.backlog.indexes = IndexFacts(vector_type="vector", vector_schema="public", indexes=(INDEX,))
    async with system.running():
        await system.clock.advance(30)
        assert events(system) == ["BackfillStarted", "IndexAdvice", "BackfillCompleted"]
    (advice,) = [event.note for event in system.parts.events.emitted if event.reason == "IndexAdvice"]
    assert "DROP INDEX CONCURRENTLY public.near" in advice


@pytest.mark.usefixtures("many_rows")
async def test_an_index_is_to_be_built_when_a_large_backfill_has_ended() -> None:
    system = looped(backfill=AUTO)
    system.store.backlog.indexes = IndexFacts(vector_type="vector", vector_schema="public")
    async with system.running():
        await system.clock.advance(30)
        assert events(system) == ["BackfillStarted", "BackfillCompleted", "IndexAdvice"]
    (advice,) = [event.note for event in system.parts.events.emitted if event.reason == "IndexAdvice"]
    assert "CREATE INDEX CONCURRENTLY ON" in advice


class Backlogged:
    """A source whose rows get jobs that nobody works on; the test says how many texts were sent."""

    def __init__(self, rows: int = ROWS, **spec: Any) -> None:
        self.system = looped(rows, backfill={"threshold": 10}, **spec)

    async def send(self, texts_per_s: int, *, for_s: int) -> None:
        for _ in range(for_s):
            used = self.system.store.used or Used("2026-03-01", 0, 0)
            self.system.store.used = replace(used, texts=used.texts + texts_per_s)
            await self.system.clock.advance(1)

    def remove(self, rows: Iterable[int]) -> None:
        for row in map(str, rows):
            del self.system.store.texts[row], self.system.store.marks[row]

    @property
    def reason(self) -> str:
        return self.system.condition("Backfilling")[1]


async def test_a_large_backlog_of_jobs_is_said_once_when_their_rate_is_known() -> None:
    backlogged = Backlogged()
    async with backlogged.system.running():
        await backlogged.send(2, for_s=15)
        assert (backlogged.reason, events(backlogged.system)) == ("NoBackfill", [])
        await backlogged.send(2, for_s=40)
        assert (backlogged.reason, events(backlogged.system)) == ("LargeBacklogInJobs", ["LargeBacklogInJobs"])
        assert "less than a minute at the present rate" in backlogged.system.condition("Backfilling")[2]


async def test_a_large_backlog_of_which_nothing_is_embedded_is_said_after_a_minute_without_a_time() -> None:
    backlogged = Backlogged(suspend=True)
    async with backlogged.system.running():
        await backlogged.send(0, for_s=45)
        assert backlogged.reason == "NoBackfill"
        await backlogged.send(0, for_s=25)
        assert backlogged.reason == "LargeBacklogInJobs"
        assert "a time that is not known yet" in backlogged.system.condition("Backfilling")[2]


async def test_a_backlog_is_large_until_half_of_the_threshold_is_left() -> None:
    backlogged = Backlogged()
    marks = backlogged.system.store.marks
    async with backlogged.system.running():
        await backlogged.send(2, for_s=40)
        backlogged.remove(range(13))
        await backlogged.send(2, for_s=15)
        assert (len(marks), backlogged.reason) == (7, "LargeBacklogInJobs")
        backlogged.remove(range(13, 16))
        await backlogged.send(2, for_s=15)
        assert (len(marks), backlogged.reason) == (4, "NoBackfill")


@pytest.mark.parametrize("rows", [0, 10])
async def test_a_backlog_within_the_threshold_is_not_large(rows: int) -> None:
    backlogged = Backlogged(rows)
    async with backlogged.system.running():
        await backlogged.send(2, for_s=70)
        assert backlogged.reason == "NoBackfill"
