"""The turns of a source's loop: wake-ups, suspension, draining, and requests to reconcile."""

import asyncio

import pytest

from embedding_operator.reconciler.row_queues import ProviderNotCallable
from embedding_operator.reconciler.turn import CALM_PAUSE_S
from embedding_operator.reconciler.window import SMALLEST
from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.outcome import RowRequest
from embedding_worker.rows.records import AuditPage
from embedding_worker.text import content_hash
from tests.support.fake_clock import settle
from tests.support.looped_source import INTERVAL_S, LoopedSource
from tests.support.operator_parts import SOURCE, job_of, requesting, source

AWAY = DatabaseUnavailable("connection refused")
PEEKED_EVERY_S = 0.25


@pytest.fixture
def system() -> LoopedSource:
    return LoopedSource({"1": "Bakery"})


async def test_a_source_that_is_accepted_is_ready_and_its_rows_get_jobs(system: LoopedSource) -> None:
    async with system.running():
        await system.clock.advance(2)
        assert system.condition("Ready")[:2] == ("True", "Sweeping")
        assert system.status["fingerprint"] == "any@8"
        assert [job["spec"]["businessId"] for job in system.server.stored_jobs.values()] == ["1"]


async def test_a_turn_follows_the_other_after_the_interval(system: LoopedSource) -> None:
    async with system.running():
        first = system.sweeps()
        await system.clock.advance(INTERVAL_S - 0.01)
        assert system.sweeps() == first
        await system.clock.advance(0.01)
        assert system.sweeps() == first + 1


async def test_a_wake_up_begins_the_next_turn_at_once(system: LoopedSource) -> None:
    async with system.running():
        first = system.sweeps()
        system.loop.wake()
        await settle()
        assert system.sweeps() == first + 1


async def test_rows_are_accepted_for_as_long_as_the_loop_runs(system: LoopedSource) -> None:
    request = RowRequest("1", content_hash("Bakery"))
    async with system.running():
        submitted = asyncio.create_task(system.parts.queues.submit(SOURCE, request, urgent=False))
        await system.clock.advance(1)
        assert submitted.done()
    waiting = asyncio.create_task(system.parts.queues.submit(SOURCE, request, urgent=False))
    await settle()
    assert not waiting.done()
    waiting.cancel()


async def test_a_wake_up_during_a_turn_that_fails_is_not_lost(system: LoopedSource) -> None:
    system.store.hold = True
    system.store.fail("sweep", AWAY)
    async with system.running():
        system.loop.wake()
        system.store.let_go.set()
        await settle()
        assert system.sweeps() == 2


async def test_a_wake_up_during_a_turn_begins_one_more_turn_and_not_two(system: LoopedSource) -> None:
    system.store.hold = True
    async with system.running():
        system.loop.wake()
        system.loop.wake()
        system.store.let_go.set()
        await settle()
        assert system.sweeps() == 2


async def test_a_suspended_source_is_audited_and_gets_no_job() -> None:
    system = LoopedSource({"1": "Bakery"}, shown=source(suspend=True))
    async with system.running():
        await system.clock.advance(2)
        assert system.condition("Ready")[:2] == ("True", "Suspended")
        assert (system.sweeps(), system.server.stored_jobs) == (0, {})
        assert list(system.store.marks) == ["1"]


async def test_rows_of_a_suspended_source_wait() -> None:
    system = LoopedSource({"1": "Bakery"}, shown=source(suspend=True))
    async with system.running():
        request = RowRequest("1", content_hash("Bakery"))
        waiting = asyncio.create_task(system.parts.queues.submit(SOURCE, request, urgent=False))
        await system.clock.advance(5)
        assert not waiting.done()
        waiting.cancel()


@pytest.mark.parametrize("suspend", [True, False])
async def test_open_jobs_of_a_suspended_source_take_no_place_of_others(suspend: bool) -> None:
    system = LoopedSource(shown=source(suspend=suspend))
    for n in range(SMALLEST):
        system.parts.track(job_of(str(n), "Bakery"))
    async with system.running():
        assert system.parts.window.free("others") == (SMALLEST if suspend else 0)


async def test_a_process_that_does_not_lead_creates_no_job_until_it_leads_again(system: LoopedSource) -> None:
    system.setup.leads = False
    async with system.running():
        await system.clock.advance(30)
        assert (system.sweeps(), system.server.stored_jobs) == (0, {})
        system.setup.leads = True
        await system.clock.advance(INTERVAL_S)
        assert [job["spec"]["businessId"] for job in system.server.stored_jobs.values()] == ["1"]


async def test_a_process_that_does_not_lead_makes_no_call_for_a_row_until_it_leads_again(system: LoopedSource) -> None:
    system.setup.leads = False
    request = RowRequest("1", content_hash("Bakery"))
    async with system.running():
        first = asyncio.create_task(system.parts.queues.submit(SOURCE, request, urgent=False))
        await system.clock.advance(30)
        assert system.setup.client.calls == []
        with pytest.raises(ProviderNotCallable):
            await first
        system.setup.leads = True
        again = asyncio.create_task(system.parts.queues.submit(SOURCE, request, urgent=False))
        await system.clock.advance(1)
        assert again.done()
        assert system.setup.client.calls == [["Bakery"]]


async def test_a_draining_loop_creates_no_job_and_goes_on_with_its_audit(system: LoopedSource) -> None:
    system.loop.drain()
    async with system.running():
        await system.clock.advance(2)
        assert (system.sweeps(), system.server.stored_jobs) == (0, {})
        assert list(system.store.marks) == ["1"]


async def test_a_request_to_reconcile_audits_the_whole_table_and_is_confirmed(system: LoopedSource) -> None:
    system.store.filled = True
    async with system.running():
        assert system.store.marks == {}
        system.loop.request_reconcile("today")
        await system.clock.advance(1)
        assert list(system.store.marks) == ["1"]
        assert system.status["lastHandledReconcileAt"] == "today"


async def test_a_request_to_reconcile_is_carried_out_once(system: LoopedSource) -> None:
    async with system.running():
        system.loop.request_reconcile("today")
        await settle()
        turns = system.sweeps()
        system.loop.request_reconcile("today")
        await settle()
        assert system.sweeps() == turns


async def test_a_request_that_an_earlier_process_carried_out_is_not_repeated() -> None:
    handled = requesting(source(), "today").model_copy(update={"status": {"lastHandledReconcileAt": "today"}})
    system = LoopedSource({"1": "Bakery"}, shown=handled)
    system.store.filled = True
    system.loop.request_reconcile("today")
    async with system.running():
        assert system.store.count("audit") == 0


async def test_a_request_during_an_outage_is_carried_out_afterwards(system: LoopedSource) -> None:
    system.store.filled = True
    async with system.running():
        system.store.fail("sweep", AWAY)
        system.loop.request_reconcile("today")
        await settle()
        assert system.store.marks == {}
        await system.clock.advance(12)
        assert system.status["lastHandledReconcileAt"] == "today"


async def test_a_long_audit_on_request_holds_up_neither_the_turns_nor_the_confirmation_of_the_owner() -> None:
    system = LoopedSource({f"{n:06}": "Bakery" for n in range(60_000)})
    system.store.filled = True
    slow_audit(system)
    async with system.running():
        system.loop.request_reconcile("today")
        oldest_turn_s, sweeps = 0.0, system.sweeps()
        for _ in range(25):
            assert "lastHandledReconcileAt" not in system.status
            await system.clock.advance(1)
            oldest_turn_s = max(oldest_turn_s, system.clock.monotonic() - system.loop.last_turn)
        assert oldest_turn_s <= 4
        assert system.sweeps() - sweeps >= 5
        assert system.setup.watch.confirmations >= 2
        await system.clock.advance(20)
        assert system.status["lastHandledReconcileAt"] == "today"


def slow_audit(system: LoopedSource) -> None:
    """Each page takes a second."""
    audit = system.store.audit

    async def slow(*, after_id: str | None, limit: int) -> AuditPage:
        await system.clock.sleep(1)
        return await audit(after_id=after_id, limit=limit)

    system.store.audit = slow  # type: ignore[method-assign]


async def peeks(system: LoopedSource, newest: int | None, *, for_s: float) -> None:
    """Time passes, in which each peek sees this mark."""
    for _ in range(round(for_s / PEEKED_EVERY_S)):
        system.setup.marks.accept(newest)
        await system.clock.advance(PEEKED_EVERY_S)


async def calm(system: LoopedSource) -> None:
    """The row is fresh, and its job is done; a peek sees the mark of a dead letter, say."""
    system.setup.marks.accept(1)
    system.store.embed("1")
    system.parts.table.finish(job_of("1", "Bakery")["metadata"]["name"])
    await peeks(system, 1, for_s=30)


async def test_a_source_with_nothing_to_do_sweeps_rarely_until_a_peek_sees_a_new_mark(system: LoopedSource) -> None:
    async with system.running():
        await calm(system)
        before = system.sweeps()
        await peeks(system, 1, for_s=10 * CALM_PAUSE_S)
        assert 9 <= system.sweeps() - before <= 11
        system.store.edit("2", "Butcher")
        before = system.sweeps()
        system.setup.marks.accept(2)
        await system.clock.advance(INTERVAL_S / 2)
        created = [job["spec"]["businessId"] for job in system.server.stored_jobs.values()]
        assert (system.sweeps(), created) == (before + 1, ["2"])
        await system.clock.advance(3)
        assert system.sweeps() >= before + 6  # its job is open


async def test_a_source_without_marks_and_jobs_is_counted_and_audited_and_not_swept(system: LoopedSource) -> None:
    async with system.running():
        await calm(system)
        system.setup.marks.accept(None)
        before = system.sweeps(), system.store.count("counts"), system.store.count("audit")
        await peeks(system, None, for_s=5 * CALM_PAUSE_S)
        assert system.sweeps() == before[0]
        assert system.store.count("counts") >= before[1] + 4
        assert system.store.count("audit") >= before[2] + 4


async def test_a_source_whose_marks_cannot_be_peeked_at_sweeps_as_often_as_with_work(system: LoopedSource) -> None:
    async with system.running():
        await calm(system)
        before = system.sweeps()
        system.setup.marks.lose()
        await system.clock.advance(5)
        assert system.sweeps() >= before + 9


async def test_a_source_is_not_calm_before_its_status_is_written(system: LoopedSource) -> None:
    async with system.running():
        await calm(system)
        system.store.texts.pop("1")
        await peeks(system, 1, for_s=CALM_PAUSE_S + 11)
        assert system.status["rows"]["total"] == 0


async def test_a_source_is_not_calm_while_an_edit_that_was_seen_waits_for_its_sweep(system: LoopedSource) -> None:
    async with system.running():
        await calm(system)
        system.setup.leads = False
        system.store.edit("2", "Butcher")
        system.setup.marks.accept(2)
        await system.clock.advance(20)
        system.setup.leads = True
        await system.clock.advance(2 * INTERVAL_S)
        created = [job["spec"]["businessId"] for job in system.server.stored_jobs.values()]
        assert created == ["2"]
