"""The process lists first, watches then, and drains before it ends; and what its probes answer meanwhile."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, cast

import kopf
import pytest
from structlog.testing import capture_logs

from embedding_operator.api_errors import ApiServerUnreachable, Gone, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.lease import LEASE, held_by, parse_lease
from embedding_operator.process import DRAIN_S, Process, close_connections
from embedding_operator.reconciler.job_runner import JobRunner
from embedding_operator.reconciler.pauses import Pauses
from embedding_operator.reconciler.sources import Sources
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.reconciler.window import SMALLEST
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase
from embedding_operator.tasks import SIGNALS, stop_on_signals
from embedding_worker.clock import Clock
from embedding_worker.errors import DatabaseUnavailable
from tests.support.fake_clock import START, settle
from tests.support.fake_database import FakeDatabase
from tests.support.manifests import a_source, merged
from tests.support.operator_parts import SOURCE, Parts, job_of

URL = "postgresql://operator@database/app"
NOT_WATCHING = "the watch is not up, or the process is ending"
CRDS_MISSING = Gone("the server could not find the requested resource")


class FakeKopf:
    """In place of kopf.operator: is ready when it is let, and runs until it is stopped."""

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self.may_be_ready = asyncio.Event()
        self.may_be_ready.set()
        self.failure: Exception | None = None
        self.crashed = asyncio.Event()
        self.runner: JobRunner | None = None
        self.pauses: Pauses | None = None

    def make_registry(
        self, server: ApiServer, sources: Sources, runner: JobRunner, pauses: Pauses, *, clock: Clock
    ) -> kopf.OperatorRegistry:
        self.runner, self.pauses = runner, pauses
        return kopf.OperatorRegistry()

    async def show(self, job: EmbeddingJob) -> None:
        """Call the handler of this job."""
        assert self.runner is not None
        assert self.pauses is not None
        if not self.pauses.holds(job):
            await self.runner.run(job)

    async def operator(self, *, stop_flag: asyncio.Event, ready_flag: asyncio.Event, **_: Any) -> None:
        self.started = True
        if self.failure is not None:
            raise self.failure
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.crashed.set)  # as kopf does
        ready, crashed = asyncio.create_task(self.may_be_ready.wait()), asyncio.create_task(self.crashed.wait())
        await asyncio.wait({ready, crashed}, return_when=asyncio.FIRST_COMPLETED)
        if not crashed.done():
            ready_flag.set()
        stopped = asyncio.create_task(stop_flag.wait())
        await asyncio.wait({stopped, crashed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ready, stopped, crashed):
            task.cancel()
        self.ended = True


class System:
    def __init__(self) -> None:
        self.parts = Parts()
        self.server, self.clock, self.table = self.parts.server, self.parts.clock, self.parts.table
        self.kopf = FakeKopf()
        self.database = FakeDatabase()
        self.stop_requested = asyncio.Event()
        self.process = Process(self.parts.context({"DATABASE_URL": URL}, database=self.database), self.stop_requested)
        self.running: asyncio.Task[int] | None = None

    async def start(self) -> None:
        stop_on_signals(self.stop_requested)
        self.running = asyncio.create_task(self._run())
        await settle()

    async def _run(self) -> int:
        async with AsyncExitStack() as while_leading:
            return await self.process.run(while_leading)

    async def stop(self) -> None:
        """What the kubelet does at the end of a pod."""
        signal.raise_signal(signal.SIGTERM)
        await settle()

    def exit_code(self) -> int | None:
        """None while the process runs."""
        assert self.running is not None
        return self.running.result() if self.running.done() else None

    def put_source(self) -> None:
        self.server.put_source(merged(a_source(SOURCE), {"metadata": {"uid": "uid-1", "generation": 1}}))


@pytest.fixture
async def system(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    made = System()
    monkeypatch.setattr("embedding_operator.process.kopf.operator", made.kopf.operator)
    monkeypatch.setattr("embedding_operator.process.make_registry", made.kopf.make_registry)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield made
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if made.running is not None:
        made.running.cancel()
        await asyncio.gather(made.running, return_exceptions=True)


# The beginning


async def test_sources_and_jobs_are_listed_before_anything_is_watched(system: System) -> None:
    system.parts.put_job(job_of("1", "Bakery", Phase.DEAD_LETTERED))
    system.put_source()
    listed = system.server.hold("sources")
    await system.start()
    assert system.kopf.started is False
    listed.set()
    await settle()
    assert system.kopf.started is True
    assert [job.business_id for job in system.table.jobs()] == ["1"]
    assert list(system.parts.catalog) == ["businesses"]


async def test_without_the_crds_the_process_waits_and_lists_again_every_two_seconds(system: System) -> None:
    system.server.fail("jobs", CRDS_MISSING, CRDS_MISSING)
    await system.start()
    await system.clock.advance(3.9)
    assert system.kopf.started is False
    await system.clock.advance(0.1)
    assert system.kopf.started is True


async def test_a_process_that_is_stopped_while_it_waits_for_the_crds_ends_at_once(system: System) -> None:
    system.server.fail("jobs", CRDS_MISSING)
    await system.start()
    await system.stop()
    assert (system.exit_code(), system.kopf.started) == (0, False)


async def test_a_process_that_is_stopped_during_its_first_list_ends_at_once(system: System) -> None:
    system.server.hold("jobs")
    await system.start()
    await system.stop()
    assert (system.exit_code(), system.kopf.started) == (0, False)


async def test_a_process_that_is_stopped_while_kopf_starts_ends_cleanly(system: System) -> None:
    """Until it has started, kopf handles the signal."""
    system.kopf.may_be_ready.clear()
    await system.start()
    await system.stop()
    assert (system.exit_code(), system.kopf.ended) == (0, True)


async def test_the_process_is_ready_when_the_watches_are_up_and_the_database_answers(system: System) -> None:
    system.kopf.may_be_ready.clear()
    system.process.database_watch.waiting_for = None
    await system.start()
    assert system.process.find_unreachable() == [NOT_WATCHING]
    system.kopf.may_be_ready.set()
    await settle()
    assert system.process.find_unreachable() == []


# The end


async def test_a_stopped_process_ends_with_its_watch(system: System) -> None:
    await system.start()
    assert system.exit_code() is None
    await system.stop()
    assert (system.exit_code(), system.kopf.ended) == (0, True)


async def test_a_job_in_flight_is_waited_for_while_the_watch_stays_up(system: System) -> None:
    await system.start()
    name = system.parts.track(job_of("1", "Bakery")).name
    system.table.start(name)
    await system.stop()
    assert (system.exit_code(), system.kopf.ended) == (None, False)
    assert system.process.find_unreachable()[0] == NOT_WATCHING
    system.table.settle(name)
    system.table.finish(name)
    await settle()
    assert (system.exit_code(), system.kopf.ended) == (0, True)


async def test_a_job_that_only_waits_for_its_handler_is_left_to_the_next_process(system: System) -> None:
    await system.start()
    system.parts.track(job_of("1", "Bakery"))
    await system.stop()
    assert system.exit_code() == 0


async def test_no_job_is_started_while_the_process_drains(system: System) -> None:
    await system.start()
    system.table.start(system.parts.track(job_of("1", "Bakery")).name)
    await system.stop()
    waiting = system.parts.put_job(job_of("2", "Garage"))
    await system.kopf.show(waiting)
    assert system.table.get(waiting.name) is None


async def test_a_job_that_backs_off_is_touched_at_the_end_of_its_pause(system: System) -> None:
    await system.start()
    until = timestamp(system.clock.now() + timedelta(seconds=10))
    job = system.parts.put_job(merged(job_of("1", "Bakery", Phase.RETRYING), {"status": {"nextAttemptTime": until}}))
    await system.kopf.show(job)
    await system.clock.advance(9.9)
    assert system.server.count("annotate_job") == 0
    await system.clock.advance(1)
    assert system.server.count("annotate_job") == 1


async def test_a_job_that_waits_for_its_source_is_released_at_once(system: System) -> None:
    system.put_source()
    system.database.error = DatabaseUnavailable("connection refused")
    await system.start()
    job = system.parts.put_job(job_of("1", "Bakery"))
    handler = asyncio.create_task(system.kopf.show(job))
    await settle()
    assert system.table.count({JobState.RUNNING}) == 1
    await system.stop()
    assert (handler.done(), system.exit_code()) == (True, 0)


async def test_a_job_that_hangs_is_waited_for_as_long_as_one_call_may_take(system: System) -> None:
    await system.start()
    system.table.start(system.parts.track(job_of("1", "Bakery")).name)
    await system.stop()
    await system.clock.advance(DRAIN_S - 0.1)
    assert system.exit_code() is None
    await system.clock.advance(0.1)
    assert system.exit_code() == 0


async def test_sources_run_until_the_work_in_flight_is_drained(system: System) -> None:
    system.put_source()
    system.database.error = DatabaseUnavailable("connection refused")
    await system.start()
    name = system.parts.track(job_of("1", "Bakery")).name
    system.table.start(name)
    await system.stop()
    asked = system.server.count("patch_source_status")
    await system.clock.advance(5)
    assert asked > 0
    assert [problem for problem in system.process.find_unreachable() if "source businesses" in problem] != []
    system.table.remove(name)
    await settle()
    assert system.exit_code() == 0
    assert system.process.find_unreachable()[1:] == ["the database has not answered yet"]


async def hangs() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise OSError


async def is_cancelled_by_others() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("close", [hangs, fails, is_cancelled_by_others])
async def test_a_connection_that_cannot_be_closed_does_not_change_the_exit_code(
    close: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool of a database that is away raises such errors when it is closed."""
    monkeypatch.setattr("embedding_operator.process.CLOSED_WITHIN_S", 0.05)
    closed: list[str] = []

    async def close_another() -> None:
        closed.append("another")

    stack = AsyncExitStack()
    stack.push_async_callback(close_another)
    stack.push_async_callback(close)
    with capture_logs() as logs:
        await close_connections(stack)
    assert (closed, len(logs)) == (["another"], 1)


async def test_a_watch_that_ends_by_itself_ends_the_process_with_an_error(system: System) -> None:
    await system.start()
    system.kopf.crashed.set()
    await settle()
    assert system.exit_code() == 1


async def test_a_watch_that_cannot_start_ends_the_process_with_an_error(system: System) -> None:
    system.kopf.failure = RuntimeError("no watch")
    await system.start()
    assert system.exit_code() == 1


async def test_housekeeping_that_ends_by_a_defect_ends_the_process_with_an_error(system: System) -> None:
    await system.start()
    system.server.fail("jobs", cast(Any, ZeroDivisionError()))
    await system.clock.advance(60)
    assert system.exit_code() == 1


# The probes


async def test_what_cannot_be_reached_is_named(system: System) -> None:
    system.put_source()
    system.database.error = DatabaseUnavailable("connection refused")
    await system.start()
    system.server.fail("jobs", *[ApiServerUnreachable("no route")] * 2)
    await system.clock.advance(60)
    system.process.database_watch.waiting_for = await system.process.database_watch.find_problem()
    assert system.process.find_unreachable() == [
        "source businesses waits for the database: connection refused",
        "no route",
        "the database: connection refused",
    ]


async def test_a_process_that_works_is_not_stuck(system: System) -> None:
    system.put_source()
    system.database.error = DatabaseUnavailable("connection refused")
    await system.start()
    await system.clock.advance(600)
    assert system.process.find_stuck() == []


async def test_a_standby_is_not_stuck_and_ready_while_it_sees_the_lease(system: System) -> None:
    spec = held_by("another pod", None, START)
    await system.server.put_lease(LEASE, spec, version=None)
    system.process.database_watch.waiting_for = None
    await system.start()
    for _ in range(40):
        await system.clock.advance(10)
        present = system.server.stored_lease
        assert present is not None
        await system.server.put_lease(LEASE, present["spec"], version=present["metadata"]["resourceVersion"])
    assert (system.process.find_stuck(), system.process.find_unreachable()) == ([], [])
    assert system.server.count("jobs") == 0
    await system.stop()
    assert system.exit_code() == 0


async def test_a_leader_that_may_not_renew_the_lease_any_more_is_not_ready_and_says_why(system: System) -> None:
    await system.start()
    system.process.database_watch.waiting_for = None
    assert system.process.find_unreachable() == []
    system.server.fail("put_lease", *[RequestRefused("leases are forbidden")] * 100)
    await system.clock.advance(5)
    assert system.process.find_unreachable() == [f"the Lease {LEASE} cannot be read or written: leases are forbidden"]


async def take_lease(system: System) -> None:
    """As another process does, and wait until the one of the system has seen it."""
    present = system.server.stored_lease
    assert present is not None
    taken = held_by("another pod", parse_lease(present), START)
    await system.server.put_lease(LEASE, taken, version=present["metadata"]["resourceVersion"])
    await system.clock.advance(5)


async def test_a_process_whose_lease_was_taken_ends_with_an_error(system: System) -> None:
    await system.start()
    await system.clock.advance(10)
    await take_lease(system)
    assert system.exit_code() == 1


async def test_a_process_whose_lease_was_taken_while_it_waits_for_the_crds_ends_with_an_error(system: System) -> None:
    system.server.fail("jobs", *[CRDS_MISSING] * 100)
    await system.start()
    await system.clock.advance(4)
    await take_lease(system)
    assert (system.exit_code(), system.kopf.started) == (1, False)


async def test_a_process_whose_lease_was_taken_finishes_the_jobs_in_flight_first(system: System) -> None:
    await system.start()
    name = system.parts.track(job_of("1", "Bakery")).name
    system.table.start(name)
    await take_lease(system)
    assert system.exit_code() is None
    system.table.settle(name)
    system.table.finish(name)
    await settle()
    assert (system.exit_code(), system.kopf.ended) == (1, True)


async def test_housekeeping_that_has_not_run_for_five_minutes_is_stuck(system: System) -> None:
    system.server.hold("sources")
    await system.start()
    await system.clock.advance(301)
    assert system.process.find_stuck() == ["housekeeping has not run for 301 s"]


async def test_a_job_whose_handler_is_not_called_for_five_minutes_shows_a_stuck_watch(system: System) -> None:
    await system.start()
    system.parts.track(job_of("1", "Bakery"))
    system.server.hold("annotate_job")
    await system.clock.advance(301)
    assert "the watch of jobs has not run for 301 s" in system.process.find_stuck()


async def test_a_job_that_somebodys_finalizer_keeps_shows_no_stuck_watch(system: System) -> None:
    await system.start()
    body = job_of("1", "Bakery")
    system.parts.track(body)
    body["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    system.server.put_job(body)
    await system.clock.advance(400)
    assert system.process.find_stuck() == []


async def test_without_the_api_server_the_watch_is_not_at_fault(system: System) -> None:
    await system.start()
    system.parts.track(job_of("1", "Bakery"))
    away = [ApiServerUnreachable("certificate verify failed")] * 1_000
    system.server.fail("annotate_job", *away)
    system.server.fail("jobs", *away)
    await system.clock.advance(400)
    assert system.process.find_stuck() == []
    assert "certificate verify failed" in system.process.find_unreachable()


async def test_a_loop_that_hangs_for_five_minutes_is_stuck(system: System) -> None:
    system.put_source()
    system.server.hold("patch_source_status")
    await system.start()
    await system.clock.advance(301)
    assert system.process.find_stuck() == ["the loop of source businesses has not run for 301 s"]


async def test_the_metrics_have_the_open_jobs_the_window_and_the_dead_letters(system: System) -> None:
    system.parts.track(job_of("1", "Bakery"))
    system.parts.track(job_of("2", "Garage", Phase.DEAD_LETTERED))
    page = system.process.metrics_page().decode()
    assert "embedding_operator_open_jobs 1.0" in page
    assert f"embedding_operator_window_jobs {SMALLEST}.0" in page
    assert "embedding_operator_dead_letters 1.0" in page
