"""A source's loop from its set-up to its end: what it writes into the status, and how it goes on after each error."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused
from embedding_operator.lifecycle.source_status import Pending
from embedding_operator.reconciler.audit import Audit
from embedding_operator.reconciler.configuration import Configuration
from embedding_operator.reconciler.source_loop import LoopSettings, SourceLoop
from embedding_operator.reconciler.source_setup import ReadySource, SourceSetup
from embedding_operator.reconciler.status_report import StatusReport
from embedding_operator.reconciler.sweep import Sweeper
from embedding_operator.resources.embedding_job import Phase
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused
from embedding_worker.outcome import RowRequest
from embedding_worker.pipeline import make_pipeline
from embedding_worker.providers.calls import Problem, ProviderCalls
from embedding_worker.rows.store import DueRow
from embedding_worker.text import content_hash
from tests.support.fake_clock import settle
from tests.support.fake_provider import FakeEmbedder
from tests.support.fake_store import FakeStore
from tests.support.operator_parts import SOURCE, Parts, job_of, requesting, source

AWAY = DatabaseUnavailable("connection refused")
REFUSED = SourceRefused("TableMissing", "public.businesses does not exist: create it, or correct spec.table")
INTERVAL_S = 0.5


class HeldStore(FakeStore):
    """Holds each sweep until it is let go, once `hold` is set."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__(texts)
        self.hold = False
        self.let_go = asyncio.Event()

    async def sweep(self, *, leave_out: Any, limit: int) -> list[DueRow]:
        if self.hold:
            await self.let_go.wait()
        return await super().sweep(leave_out=leave_out, limit=limit)


class FakeSetup(SourceSetup):
    """Accepts the source, unless it is to fail. Records how often it was asked."""

    def __init__(self, parts: Parts, store: FakeStore) -> None:
        self._parts = parts
        self._store = store
        self.failures: list[Exception] = []
        self.pending: Pending | None = None
        self.refused_change: tuple[str, str] | None = None
        self.asked = 0
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens during each set-up."""
        self.calls: ProviderCalls | None = None

    async def decide(self, source: EmbeddingSource) -> Configuration:
        self.asked += 1
        self.meanwhile()
        if self.failures:
            raise self.failures.pop(0)
        return Configuration(source.spec.config(), self.pending, self.refused_change)

    async def prepare(self, source: EmbeddingSource, chosen: Configuration) -> ReadySource:
        clock, store, fingerprint = self._parts.clock, self._store, chosen.config.fingerprint
        pipeline = make_pipeline(
            store, FakeEmbedder(), too_long=source.spec.model.too_long, max_texts_per_day=1_000, clock=clock
        )
        self.calls = pipeline.calls
        server, jobs = self._parts.server, self._parts.jobs
        return ReadySource(
            store,
            Sweeper(source.name, fingerprint, store=store, server=server, jobs=jobs, clock=clock),
            Audit(store, rows_per_s=500, filled=await store.is_filled(), clock=clock),
            pipeline,
        )


class System:
    """A source with these rows, and its loop."""

    def __init__(self, texts: dict[str, str] | None = None, *, shown: EmbeddingSource | None = None) -> None:
        self.parts = Parts()
        self.clock, self.server = self.parts.clock, self.parts.server
        self.store = HeldStore(texts or {})
        self.setup = FakeSetup(self.parts, self.store)
        self.shown = shown or source()
        self.server.put_source({"metadata": {"name": SOURCE}})
        self.parts.catalog.put(self.shown)
        report = StatusReport(
            self.shown, server=self.server, events=self.parts.events, table=self.parts.table, clock=self.clock
        )
        self.loop = SourceLoop(
            self.shown,
            self.setup,
            report=report,
            queues=self.parts.queues,
            window=self.parts.window,
            metrics=self.parts.metrics,
            settings=LoopSettings(INTERVAL_S, price_per_million_tokens=0.15),
            clock=self.clock,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The loop has done all that it does without time passing."""
        task = asyncio.create_task(self.loop.run())
        await settle()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.stored_sources[SOURCE].get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of this condition."""
        (found,) = [condition for condition in self.status["conditions"] if condition["type"] == kind]
        return found["status"], found["reason"], found["message"]

    def sweeps(self) -> int:
        return self.store.count("sweep")


@pytest.fixture
def system() -> System:
    return System({"1": "Bakery"})


async def test_a_source_that_is_accepted_is_ready_and_its_rows_get_jobs(system: System) -> None:
    async with system.running():
        await system.clock.advance(2)
        assert system.condition("Ready")[:2] == ("True", "Sweeping")
        assert system.status["fingerprint"] == "any@8"
        assert [job["spec"]["businessId"] for job in system.server.stored_jobs.values()] == ["1"]


async def test_a_turn_follows_the_other_after_the_interval(system: System) -> None:
    async with system.running():
        first = system.sweeps()
        await system.clock.advance(INTERVAL_S - 0.01)
        assert system.sweeps() == first
        await system.clock.advance(0.01)
        assert system.sweeps() == first + 1


async def test_a_wake_up_begins_the_next_turn_at_once(system: System) -> None:
    async with system.running():
        first = system.sweeps()
        system.loop.wake()
        await settle()
        assert system.sweeps() == first + 1


async def test_rows_are_accepted_for_as_long_as_the_loop_runs(system: System) -> None:
    request = RowRequest("1", content_hash("Bakery"))
    async with system.running():
        submitted = asyncio.create_task(system.parts.queues.submit(SOURCE, request, urgent=False))
        await system.clock.advance(1)
        assert submitted.done()
    waiting = asyncio.create_task(system.parts.queues.submit(SOURCE, request, urgent=False))
    await settle()
    assert not waiting.done()
    waiting.cancel()


async def test_a_source_that_is_being_set_up_says_so(system: System) -> None:
    system.setup.failures = [AWAY]
    async with system.running():
        assert system.condition("Ready") == ("False", "SettingUp", "the database: connection refused")
        assert system.condition("Reconciling")[0] == "True"
        assert system.condition("Stalled")[0] == "False"
        assert system.loop.waiting_for == "the database: connection refused"


@pytest.mark.parametrize("error", [AWAY, RowsLocked("a lock timeout")])
async def test_a_set_up_without_the_database_is_tried_again_after_two_seconds(system: System, error: Exception) -> None:
    system.setup.failures = [error]
    async with system.running():
        await system.clock.advance(1.9)
        assert system.setup.asked == 1
        await system.clock.advance(0.1)
        assert system.setup.asked == 2
        await system.clock.advance(1)
        assert system.condition("Ready")[0] == "True"
        assert system.loop.waiting_for is None


async def test_a_refused_source_is_stalled_with_the_reason_at_once(system: System) -> None:
    system.setup.failures = [REFUSED]
    async with system.running():
        assert system.condition("Stalled") == ("True", "TableMissing", REFUSED.message)
        assert system.condition("Ready")[:2] == ("False", "TableMissing")
        assert system.store.requests == []


async def test_a_refused_source_is_set_up_again_every_half_minute(system: System) -> None:
    system.setup.failures = [REFUSED, REFUSED]
    async with system.running():
        await system.clock.advance(29.9)
        assert system.setup.asked == 1
        await system.clock.advance(0.1)
        assert system.setup.asked == 2
        await system.clock.advance(30)
        assert system.setup.asked == 3
        await system.clock.advance(1)
        assert system.condition("Stalled")[0] == "False"


async def test_a_wake_up_has_a_refused_source_set_up_at_once(system: System) -> None:
    system.setup.failures = [REFUSED]
    async with system.running():
        system.loop.wake()
        await settle()
        assert system.setup.asked == 2


async def test_a_key_that_is_rotated_during_a_set_up_that_fails_is_used_at_once(system: System) -> None:
    system.setup.failures = [REFUSED]
    system.setup.meanwhile = lambda: system.loop.wake() if system.setup.asked == 1 else None
    async with system.running():
        assert system.setup.asked == 2


async def test_a_wake_up_during_a_turn_that_fails_is_not_lost(system: System) -> None:
    system.store.hold = True
    system.store.fail("sweep", AWAY)
    async with system.running():
        system.loop.wake()
        system.store.let_go.set()
        await settle()
        assert system.sweeps() == 2


async def test_a_wake_up_during_a_turn_begins_one_more_turn_and_not_two(system: System) -> None:
    system.store.hold = True
    async with system.running():
        system.loop.wake()
        system.loop.wake()
        system.store.let_go.set()
        await settle()
        assert system.sweeps() == 2


async def test_without_the_database_a_source_waits_and_stays_set_up(system: System) -> None:
    async with system.running():
        await system.clock.advance(1)
        system.store.fail("sweep", AWAY, AWAY)
        await system.clock.advance(3)
        assert system.condition("Ready")[:2] == ("True", "Sweeping")
        assert system.condition("Fresh") == ("Unknown", "Waiting", "the database: connection refused")
        assert system.loop.waiting_for == "the database: connection refused"
        await system.clock.advance(5)
        assert system.loop.waiting_for is None
        assert system.setup.asked == 1


async def test_without_the_api_server_no_source_is_set_up_again(system: System) -> None:
    system.store.edit("1", "Bakery")
    system.server.fail("create_job", ApiServerUnreachable("no route"))
    async with system.running():
        assert system.loop.waiting_for == "the API server: no route"
        assert system.server.stored_jobs == {}
        await system.clock.advance(2)
        assert system.loop.waiting_for is None
        assert len(system.server.stored_jobs) == 1
        assert system.setup.asked == 1


async def test_a_quota_that_refuses_jobs_is_reported_and_the_loop_goes_on(system: System) -> None:
    system.store.edit("1", "Bakery")
    system.server.fail("create_job", RequestRefused("exceeded quota"))
    async with system.running():
        assert system.loop.waiting_for == "the API server refuses: exceeded quota"
        await system.clock.advance(5)
        assert len(system.server.stored_jobs) == 1


async def test_rows_that_are_locked_now_and_then_are_not_reported(system: System) -> None:
    locked = RowsLocked("a lock timeout")
    system.store.fail("sweep", locked, locked, locked, locked)
    async with system.running():
        for _ in range(4):
            assert system.loop.waiting_for is None
            await system.clock.advance(INTERVAL_S)
        assert system.sweeps() == 5


async def test_rows_that_stay_locked_for_five_turns_are_reported(system: System) -> None:
    system.store.fail("sweep", *[RowsLocked("a lock timeout")] * 5)
    async with system.running():
        await system.clock.advance(4 * INTERVAL_S)
        assert system.loop.waiting_for == "the database: a lock timeout, 5 times in a row"
        await system.clock.advance(2)
        assert system.loop.waiting_for is None


async def test_a_turn_without_a_lock_starts_the_count_of_locked_turns_again(system: System) -> None:
    async with system.running():
        for _ in range(2):
            system.store.fail("sweep", *[RowsLocked("a lock timeout")] * 4)
            await system.clock.advance(5 * INTERVAL_S)
            assert system.loop.waiting_for is None


async def test_a_source_that_is_refused_in_a_turn_is_stalled_and_set_up_again(system: System) -> None:
    async with system.running():
        system.store.fail("sweep", REFUSED)
        await system.clock.advance(INTERVAL_S)
        assert system.condition("Stalled")[:2] == ("True", "TableMissing")
        assert system.parts.window.free("others") == 50
        await system.clock.advance(31)
        assert system.condition("Ready")[0] == "True"
        assert system.setup.asked == 2


async def test_a_source_that_has_to_be_set_up_again_without_the_database_stays_ready(system: System) -> None:
    async with system.running():
        system.store.fail("sweep", REFUSED)
        system.setup.failures = [AWAY]
        await system.clock.advance(INTERVAL_S)
        await system.clock.advance(30)
        assert system.condition("Stalled")[0] == "False"
        assert system.condition("Ready")[1] == "SettingUp"


async def test_an_unexpected_error_stalls_the_source_without_its_message_and_is_tried_again(system: System) -> None:
    system.store.fail("counts", ZeroDivisionError("a row's text"))
    async with system.running():
        assert system.condition("Stalled") == (
            "True",
            "InternalError",
            "an unexpected error, ZeroDivisionError: see the operator's log, and report it",
        )
        await system.clock.advance(31)
        assert system.condition("Ready")[0] == "True"


async def test_a_suspended_source_is_audited_and_gets_no_job() -> None:
    system = System({"1": "Bakery"}, shown=source(suspend=True))
    async with system.running():
        await system.clock.advance(2)
        assert system.condition("Ready")[:2] == ("True", "Suspended")
        assert (system.sweeps(), system.server.stored_jobs) == (0, {})
        assert list(system.store.marks) == ["1"]


async def test_rows_of_a_suspended_source_wait() -> None:
    system = System({"1": "Bakery"}, shown=source(suspend=True))
    async with system.running():
        request = RowRequest("1", content_hash("Bakery"))
        waiting = asyncio.create_task(system.parts.queues.submit(SOURCE, request, urgent=False))
        await system.clock.advance(5)
        assert not waiting.done()
        waiting.cancel()


@pytest.mark.parametrize("suspend", [True, False])
async def test_open_jobs_of_a_suspended_source_take_no_place_of_others(suspend: bool) -> None:
    system = System(shown=source(suspend=suspend))
    for n in range(50):
        system.parts.track(job_of(str(n), "Bakery"))
    async with system.running():
        assert system.parts.window.free("others") == (50 if suspend else 0)


async def test_a_draining_loop_creates_no_job_and_goes_on_with_its_audit(system: System) -> None:
    system.loop.drain()
    async with system.running():
        await system.clock.advance(2)
        assert (system.sweeps(), system.server.stored_jobs) == (0, {})
        assert list(system.store.marks) == ["1"]


async def test_a_request_to_reconcile_audits_the_whole_table_and_is_confirmed(system: System) -> None:
    system.store.filled = True
    async with system.running():
        assert system.store.marks == {}
        system.loop.request_reconcile("today")
        await system.clock.advance(1)
        assert list(system.store.marks) == ["1"]
        assert system.status["lastHandledReconcileAt"] == "today"


async def test_a_request_to_reconcile_is_carried_out_once(system: System) -> None:
    async with system.running():
        system.loop.request_reconcile("today")
        await settle()
        turns = system.sweeps()
        system.loop.request_reconcile("today")
        await settle()
        assert system.sweeps() == turns


async def test_a_request_that_an_earlier_process_carried_out_is_not_repeated() -> None:
    handled = requesting(source(), "today").model_copy(update={"status": {"lastHandledReconcileAt": "today"}})
    system = System({"1": "Bakery"}, shown=handled)
    system.store.filled = True
    system.loop.request_reconcile("today")
    async with system.running():
        assert system.store.count("audit") == 0


async def test_a_request_during_an_outage_is_carried_out_afterwards(system: System) -> None:
    system.store.filled = True
    async with system.running():
        system.store.fail("sweep", AWAY)
        system.loop.request_reconcile("today")
        await settle()
        assert system.store.marks == {}
        await system.clock.advance(12)
        assert system.status["lastHandledReconcileAt"] == "today"


async def test_rows_are_counted_every_half_second_however_many_turns_there_are(system: System) -> None:
    system.store.filled = True
    async with system.running():
        assert system.store.count("counts") == 1
        for _ in range(5):
            system.loop.wake()
            await settle()
        assert system.store.count("counts") == 1
        await system.clock.advance(INTERVAL_S)
        assert system.store.count("counts") == 2


async def test_the_counts_reach_the_status_the_metrics_and_the_window(system: System) -> None:
    async with system.running():
        await system.clock.advance(12)
        assert (system.status["rows"]["total"], system.status["rows"]["due"]) == (1, 1)
        page = system.parts.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
        assert 'embedding_operator_due_rows{source="businesses"} 1.0' in page
        assert system.parts.window.free(SOURCE) == 49


async def test_what_was_sent_today_reaches_the_status_with_its_cost(system: System) -> None:
    await system.store.acquire_texts(2, tokens=100_000, most_a_day=1_000)
    async with system.running():
        await system.clock.advance(12)
        assert system.status["today"] == {
            "date": "2026-03-01",
            "texts": 2,
            "tokens": 100_000,
            "estimatedCost": "0.0150",
        }


async def test_an_incomplete_first_audit_is_in_the_status_until_it_is_complete(system: System) -> None:
    system.store.fail("audit", AWAY, AWAY)
    async with system.running():
        await system.clock.advance(3)
        assert system.condition("Fresh")[:2] == ("Unknown", "Waiting")
        await system.clock.advance(5)
        assert system.condition("Fresh")[:2] == ("False", "RowsDue")


async def test_a_change_that_waits_for_approval_is_in_the_status(system: System) -> None:
    system.setup.pending = Pending("other@8#0123abcd", rows=90, tokens=30_000)
    async with system.running():
        await system.clock.advance(1)
        assert system.status["pendingFingerprint"] == "other@8#0123abcd"
        assert system.condition("ReembedRequired")[:2] == ("True", "ApprovalNeeded")
        assert system.condition("Ready")[0] == "True"


async def test_a_refused_change_is_in_the_status_while_the_previous_configuration_is_swept(system: System) -> None:
    system.setup.refused_change = ("ColumnMissing", "there is no column city")
    async with system.running():
        await system.clock.advance(1)
        assert system.condition("Stalled") == ("True", "ColumnMissing", "there is no column city")
        assert len(system.server.stored_jobs) == 1


async def test_a_problem_of_the_provider_is_in_the_status_and_makes_the_source_idle(system: System) -> None:
    for n in range(50):
        system.parts.track(job_of(f"n{n}", "Garage"))
    async with system.running():
        assert system.setup.calls is not None
        system.setup.calls.problem = Problem("QuotaExhausted", "the quota of the day is used up")
        await system.clock.advance(1)
        assert system.condition("ProviderReady") == ("False", "QuotaExhausted", "the quota of the day is used up")
        assert system.parts.window.free("others") == 50


async def test_too_many_dead_letters_are_in_the_status(system: System) -> None:
    for n in range(500):
        system.parts.track(job_of(f"n{n}", "Garage", Phase.DEAD_LETTERED))
    async with system.running():
        await system.clock.advance(1)
        assert system.condition("Stalled")[:2] == ("True", "DeadLetterLimit")
        assert system.status["jobs"] == {"open": 0, "deadLettered": 500}


async def test_the_time_of_the_last_turn_goes_on_whatever_is_unreachable(system: System) -> None:
    system.setup.failures = [AWAY] * 10
    async with system.running():
        await system.clock.advance(10)
        assert system.clock.monotonic() - system.loop.last_turn <= 2


async def test_a_turn_that_hangs_is_visible_by_the_time_of_the_last_turn(system: System) -> None:
    system.store.hold = True
    async with system.running():
        await system.clock.advance(400)
        assert system.clock.monotonic() - system.loop.last_turn == 400


async def test_a_loop_that_has_ended_takes_no_place_in_the_window(system: System) -> None:
    for n in range(50):
        system.parts.track(job_of(f"n{n}", "Garage"))
    async with system.running():
        assert system.parts.window.free("others") == 0
    assert system.parts.window.free("others") == 50
