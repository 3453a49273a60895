"""When a backfill begins, goes on and ends; where it runs; and what is known of it."""

import asyncio
from typing import Any

import pytest

from embedding_operator.reconciler.backfill import Step, next_step
from embedding_operator.reconciler.window import SMALLEST, UNDECIDED_SHARE
from embedding_operator.resources.embedding_job import Phase
from embedding_worker.errors import InputRejected, ProviderUnavailable
from embedding_worker.limits import Limits
from embedding_worker.rows.backfills import BackfillSettings, WorkerReport
from embedding_worker.rows.records import AuditPage
from tests.support.looped_source import LoopedSource
from tests.support.operator_parts import SOURCE, job_of, source

ROWS = 20
AUTO = {"mode": "Auto", "threshold": 10}


@pytest.mark.parametrize(
    ("now", "step"),
    [
        ({}, Step.NONE),
        ({"over_threshold": True}, Step.BEGIN),
        ({"auto": False, "over_threshold": True}, Step.NONE),
        ({"active": True, "any_left": True}, Step.GO_ON),
        ({"active": True, "any_left": True, "over_threshold": False}, Step.GO_ON),
        ({"active": True}, Step.END),
        ({"active": True, "filled": False}, Step.GO_ON),
        ({"active": True, "auto": False, "any_left": True}, Step.END),
    ],
)
def test_a_backfill_begins_above_the_threshold_and_goes_on_until_no_row_is_left(
    now: dict[str, bool], step: Step
) -> None:
    given = {"auto": True, "active": False, "over_threshold": False, "any_left": False, "filled": True}
    assert next_step(**(given | now)) is step


def looped(rows: int = ROWS, **spec: Any) -> LoopedSource:
    """A source whose rows were there before it, so that only its audit makes them due."""
    return LoopedSource({str(n): f"name {n}" for n in range(rows)}, shown=source(**spec))


def embedded(system: LoopedSource) -> int:
    return len(system.store.embedded)


async def test_rows_above_the_threshold_are_embedded_without_jobs() -> None:
    system = looped(backfill=AUTO)
    async with system.running():
        await system.clock.advance(30)
    assert (embedded(system), system.store.marks, system.server.stored_jobs) == (ROWS, {}, {})
    (run,) = system.store.backlog.records.runs
    assert (run.total, run.is_active) == (ROWS, False)


async def test_fewer_rows_get_jobs() -> None:
    system = looped(backfill={"mode": "Auto", "threshold": ROWS})
    async with system.running():
        await system.clock.advance(10)
    assert (len(system.server.stored_jobs), system.store.backlog.records.runs) == (ROWS, [])


async def test_with_mode_jobs_each_row_gets_a_job_whatever_their_number() -> None:
    system = looped(backfill={"mode": "Jobs", "threshold": 1})
    async with system.running():
        await system.clock.advance(10)
    assert (len(system.server.stored_jobs), system.store.backlog.records.runs) == (ROWS, [])


@pytest.mark.parametrize(
    ("mode", "page_s", "whole"), [("Auto", 10.0, False), ("Auto", 0.0, True), ("Jobs", 10.0, True)]
)
async def test_until_the_first_audit_is_complete_few_rows_get_jobs_where_a_backfill_may_begin(
    monkeypatch: pytest.MonkeyPatch, mode: str, page_s: float, whole: bool
) -> None:
    system = looped(backfill={"mode": mode, "threshold": ROWS})
    read = system.store.audit

    async def slow(*, after_id: str | None, limit: int) -> AuditPage:
        await system.clock.sleep(page_s)
        return await read(after_id=after_id, limit=limit)

    monkeypatch.setattr(system.store, "audit", slow)
    async with system.running():
        await system.clock.advance(5)
        assert (system.parts.window.share_of(SOURCE) == SMALLEST) is whole
        if not whole:
            assert system.parts.window.share_of(SOURCE) == UNDECIDED_SHARE


async def test_the_edits_during_a_backfill_have_the_whole_window() -> None:
    system = looped(backfill=AUTO)
    system.setup.client.fails = lambda texts: ProviderUnavailable("the server is away")
    async with system.running():
        await system.clock.advance(6)
        assert system.store.backlog.records.runs[-1].is_active
        assert system.parts.window.share_of(SOURCE) == SMALLEST


async def test_rows_that_are_due_when_the_operator_starts_get_no_jobs_before_a_backfill() -> None:
    system = looped(backfill=AUTO)
    system.store.filled = True
    await system.store.audit(after_id=None, limit=ROWS)  # by an earlier process
    async with system.running():
        await system.clock.advance(30)
    assert (embedded(system), system.server.stored_jobs) == (ROWS, {})


async def test_edits_get_jobs_meanwhile() -> None:
    system = looped(backfill=AUTO)
    system.setup.client.fails = lambda texts: ProviderUnavailable("the server is away")
    async with system.running():
        await system.clock.advance(6)
        system.store.edit("3", "edited")
        await system.clock.advance(2)
        assert [job["spec"]["businessId"] for job in system.server.stored_jobs.values()] == ["3"]
        assert system.store.backlog.records.runs[-1].is_active


async def test_a_row_that_fails_gets_a_job_and_the_others_are_embedded() -> None:
    system = looped(backfill=AUTO)
    system.setup.client.fails = lambda texts: InputRejected("No", "refused") if "name 7" in texts else None
    async with system.running():
        await system.clock.advance(60)
        assert [job["spec"]["businessId"] for job in system.server.stored_jobs.values()] == ["7"]
        backfill = system.status["backfill"]
    assert (embedded(system), backfill["done"], backfill["failed"]) == (ROWS - 1, ROWS - 1, 1)


async def test_a_row_that_has_a_job_keeps_it() -> None:
    system = looped(backfill=AUTO)
    system.parts.track(job_of("5", "name 5", Phase.DEAD_LETTERED))
    async with system.running():
        await system.clock.advance(30)
    assert embedded(system) == ROWS - 1
    assert list(system.store.marks) == ["5"]


async def test_a_suspended_source_begins_none_and_continues_none() -> None:
    system = looped(backfill=AUTO, suspend=True)
    async with system.running():
        await system.clock.advance(20)
        assert (embedded(system), system.store.backlog.records.runs) == (0, [])


@pytest.mark.parametrize("suspend", [True, False])
async def test_workers_elsewhere_are_told_whether_the_source_is_suspended(suspend: bool) -> None:
    system = looped(backfill=AUTO | {"workers": 1}, suspend=suspend)
    settings = BackfillSettings(system.shown.spec.config(), Limits(), 4, 1)
    records = system.store.backlog.records
    run = await records.begin("before", f"{system.shown.metadata.namespace}/businesses", settings, total=ROWS)
    await records.record_paused(run, paused=not suspend)
    async with system.running():
        await system.clock.advance(5)
    assert [(run.run, run.paused, run.is_active) for run in records.runs] == [("before", suspend, True)]


async def test_a_worker_that_waits_because_the_source_is_suspended_is_no_problem() -> None:
    system = looped(backfill=AUTO, suspend=True)
    settings = BackfillSettings(system.shown.spec.config(), Limits(), 4, 0)
    records = system.store.backlog.records
    run = await records.begin("before", f"{system.shown.metadata.namespace}/businesses", settings, total=ROWS)
    await records.report(run, WorkerReport(0, problem="the source is suspended"))
    async with system.running():
        await system.clock.advance(5)
        assert system.condition("Backfilling")[:2] == ("True", "Paused")


async def test_a_backfill_on_record_is_continued_after_a_restart() -> None:
    system = looped(backfill=AUTO)
    settings = BackfillSettings(system.shown.spec.config(), Limits(), 4, 0)
    records = system.store.backlog.records
    await records.begin("before", f"{system.shown.metadata.namespace}/businesses", settings, total=ROWS)
    await records.report(records.runs[-1], WorkerReport(0, 100))
    async with system.running():
        await system.clock.advance(30)
    assert [run.run for run in records.runs] == ["before"]
    assert (embedded(system), records.reported[0].done) == (ROWS, 100 + ROWS)


@pytest.mark.parametrize(
    "spec",
    [
        {"existingVectors": "Adopt"},
        {"model": {"queryPrefix": "query: "}},
        {"model": {"queryTaskType": "CLUSTERING"}},
        {"model": {"apiKeySecretRef": {"name": "team-b", "key": "k"}}},
    ],
)
async def test_a_backfill_goes_on_whatever_the_source_says_of_things_that_no_worker_needs(spec: dict[str, Any]) -> None:
    system = looped(backfill=AUTO, **spec)
    system.setup.client.held = held = asyncio.Event()
    async with system.running():
        await system.clock.advance(10)
        sent = len(system.setup.client.calls)
        await system.clock.advance(10)
        assert len(system.setup.client.calls) == sent, "no look has cancelled the calls in flight"
        held.set()
        await system.clock.advance(30)
    assert len(system.store.backlog.records.runs) == 1
    assert embedded(system) == ROWS


async def test_a_report_that_the_database_has_not_recorded_is_made_again() -> None:
    system = looped(backfill=AUTO)
    records = system.store.backlog.records
    records.lost_reports = 2
    async with system.running():
        await system.clock.advance(60)
    assert (embedded(system), records.lost_reports) == (ROWS, 0)
    assert [(run.total, run.is_active) for run in records.runs] == [(ROWS, False)]
    assert records.reported[0].done == ROWS


async def test_a_backfill_that_the_database_has_lost_is_begun_again_and_ends() -> None:
    system = looped(300, backfill=AUTO | {"concurrency": 1})
    records, held = system.store.backlog.records, asyncio.Event()
    system.setup.client.held = held
    async with system.running():
        await system.clock.advance(1)
        records.runs.clear()  # a failover to a replica that was behind
        await system.clock.advance(9)
        held.set()
        await system.clock.advance(60)
    assert embedded(system) == 300
    assert [run.is_active for run in records.runs] == [False]


async def test_a_backfill_that_another_leader_has_begun_meanwhile_is_followed() -> None:
    system = looped(300, backfill=AUTO | {"concurrency": 1})
    records, name = system.store.backlog.records, f"{system.shown.metadata.namespace}/businesses"
    system.setup.client.held = held = asyncio.Event()
    async with system.running():
        await system.clock.advance(1)
        mine = records.runs.pop()
        others = await records.begin("of the other", name, mine.settings, total=300)
        held.set()
        await system.clock.advance(60)
    assert [(run.run, run.is_active) for run in records.runs] == [(others.run, False)]
    assert embedded(system) == 300


async def test_what_is_done_is_reported_where_the_source_changes_while_calls_are_in_flight() -> None:
    system = looped(300, backfill=AUTO | {"concurrency": 1})
    system.setup.client.held = held = asyncio.Event()
    held.set()
    system.setup.client.meanwhile = lambda: held.clear() if len(system.setup.client.calls) == 3 else None
    async with system.running():
        await system.clock.advance(1)
        assert 0 < embedded(system) < 300
        assert system.store.backlog.records.reported == {}
    assert system.store.backlog.records.reported[0].done == embedded(system)


@pytest.mark.parametrize("changed", [{"mode": "Jobs"}, {"mode": "Auto", "concurrency": 7}])
async def test_a_backfill_of_another_spec_ends_when_the_source_is_set_up(changed: dict[str, Any]) -> None:
    system = looped(backfill=changed)
    settings = BackfillSettings(system.shown.spec.config(), Limits(), 4, 0)
    records = system.store.backlog.records
    run = await records.begin("before", f"{system.shown.metadata.namespace}/businesses", settings, total=ROWS)
    async with system.running():
        await system.clock.advance(1)
    assert (records.runs[0].run, records.runs[0].is_active) == (run.run, False)


async def test_workers_that_are_not_enabled_are_a_problem_that_says_what_to_set() -> None:
    system = looped(backfill=AUTO | {"workers": 3})
    async with system.running():
        await system.clock.advance(10)
        assert embedded(system) == 0
        status, reason, message = system.condition("Backfilling")
    assert (status, reason) == ("False", "WorkersNotEnabled")
    assert "backfill.workers.enabled" in message


async def test_workers_that_are_not_enabled_are_no_problem_while_some_run_by_hand() -> None:
    system = looped(backfill=AUTO | {"workers": 3})
    async with system.running():
        await system.clock.advance(10)
        records = system.store.backlog.records
        await records.report(records.runs[-1], WorkerReport(1, 4))
        await system.clock.advance(20)
        status, _, message = system.condition("Backfilling")
    assert (status, "by 1 worker:" in message) == ("True", True)


async def test_drained_it_begins_no_other_call_and_those_in_flight_are_written() -> None:
    system = looped(300, backfill=AUTO | {"concurrency": 1})
    system.setup.client.meanwhile = lambda: system.loop.drain()
    async with system.running():
        await system.clock.advance(6)
        await system.loop.wait_until_drained()
        assert 0 < embedded(system) < 300
        assert embedded(system) == sum(system.setup.client.sizes)
    assert system.store.backlog.records.reported[0].done == embedded(system)
