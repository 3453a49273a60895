"""Orphaned jobs are touched, and what is known agrees with a list once a minute."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import structlog

from embedding_operator.api_errors import ApiServerUnreachable, Gone, RequestRefused
from embedding_operator.api_server import Json
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.embedding_job import Phase
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import settle
from tests.support.housekeeping_system import HousekeepingSystem
from tests.support.operator_parts import job_of, source

AWAY = ApiServerUnreachable("no route")
PATIENCE_S = 30


@pytest.fixture
def system() -> HousekeepingSystem:
    return HousekeepingSystem()


@pytest.fixture
async def running(system: HousekeepingSystem) -> AsyncIterator[HousekeepingSystem]:
    task = asyncio.create_task(system.housekeeping.run())
    await settle()
    yield system
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# Orphans


async def test_a_job_that_waits_too_long_for_its_handler_is_touched(system: HousekeepingSystem) -> None:
    system.parts.track(job_of("1", "Bakery"))
    await system.clock.advance(PATIENCE_S - 1)
    await system.housekeeping.touch_orphans()
    assert system.touched("1") is None
    await system.clock.advance(1)
    await system.housekeeping.touch_orphans()
    assert system.touched("1") == "2026-03-01T12:00:30.000Z"


async def test_an_orphan_is_touched_once_within_half_a_minute(system: HousekeepingSystem) -> None:
    system.parts.track(job_of("1", "Bakery"))
    await system.clock.advance(PATIENCE_S)
    for _ in range(3):
        await system.housekeeping.touch_orphans()
    assert system.server.count("annotate_job") == 1
    await system.clock.advance(PATIENCE_S)
    await system.housekeeping.touch_orphans()
    assert system.server.count("annotate_job") == 2


async def test_a_job_that_a_handler_works_on_is_not_touched(system: HousekeepingSystem) -> None:
    system.table.start(system.parts.track(job_of("1", "Bakery")).name)
    await system.clock.advance(10 * PATIENCE_S)
    await system.housekeeping.touch_orphans()
    assert system.server.requests == []


async def test_an_orphan_that_was_deleted_is_no_longer_known(system: HousekeepingSystem) -> None:
    system.parts.track(job_of("1", "Bakery"))
    system.server.stored_jobs.clear()
    await system.clock.advance(PATIENCE_S)
    await system.housekeeping.touch_orphans()
    assert system.table.jobs() == []


async def test_an_orphan_that_may_not_be_touched_delays_no_other_one(system: HousekeepingSystem) -> None:
    for row_id in ("1", "2"):
        system.parts.track(job_of(row_id, "Bakery"))
    await system.clock.advance(PATIENCE_S)
    system.server.fail("annotate_job", RequestRefused("forbidden"))
    await system.housekeeping.touch_orphans()
    assert (system.touched("1"), system.touched("2")) == (None, "2026-03-01T12:00:30.000Z")


async def test_an_orphan_that_could_not_be_touched_is_touched_when_the_server_is_back(
    system: HousekeepingSystem,
) -> None:
    system.parts.track(job_of("1", "Bakery"))
    await system.clock.advance(PATIENCE_S)
    system.server.fail("annotate_job", AWAY)
    await system.housekeeping.turn()
    await system.clock.advance(1)
    await system.housekeeping.turn()
    assert system.touched("1") == "2026-03-01T12:00:31.000Z"


# The list


async def test_a_list_shows_sources_and_jobs_that_were_not_known(system: HousekeepingSystem) -> None:
    system.put_source()
    system.parts.put_job(job_of("1", "Bakery"))
    await system.housekeeping.resync()
    assert system.sources.observed == ["businesses"]
    assert [(job.business_id, job.state) for job in system.table.jobs()] == [("1", JobState.QUEUED)]
    assert system.sources.deleted == []


async def test_a_source_that_the_list_does_not_have_was_deleted(system: HousekeepingSystem) -> None:
    system.parts.catalog.put(source())
    await system.housekeeping.resync()
    assert system.sources.deleted == ["businesses"]


async def test_jobs_without_a_source_have_their_source_reported_as_deleted(system: HousekeepingSystem) -> None:
    system.put_source()
    system.parts.put_job(job_of("1", "Bakery"))
    system.parts.put_job(job_of("1", "Bakery", of="gone"))
    await system.housekeeping.resync()
    assert system.sources.deleted == ["gone"]


async def test_a_source_that_is_created_while_the_list_is_read_is_not_reported_as_deleted() -> None:
    server = CreatesSourceDuringList()
    system = HousekeepingSystem(server=server)
    server.create = lambda: system.parts.catalog.put(source())
    await system.housekeeping.resync()
    assert system.sources.deleted == []


class CreatesSourceDuringList(FakeApiServer):
    """The watch shows a new source, which the list does not have yet."""

    def __init__(self) -> None:
        super().__init__()
        self.create: Callable[[], None] = lambda: None

    async def sources(self) -> list[Json]:
        listed = await super().sources()
        self.create()
        return listed


async def test_a_source_that_this_version_does_not_understand_is_logged_and_not_deleted(
    system: HousekeepingSystem,
) -> None:
    system.server.put_source({"metadata": {"name": "newer"}, "spec": {"tables": ["a", "b"]}})
    system.parts.put_job(job_of("1", "Bakery", of="newer"))
    with structlog.testing.capture_logs() as logs:
        await system.housekeeping.resync()
    assert [(entry["event"], entry["name"]) for entry in logs] == [("object not understood", "newer")]
    assert (system.sources.observed, system.sources.deleted) == ([], [])


async def test_a_job_that_is_being_deleted_is_gone(system: HousekeepingSystem) -> None:
    system.put_source()
    for row, phase in (("1", Phase.PENDING), ("2", Phase.DEAD_LETTERED), ("3", Phase.SUCCEEDED)):
        body = job_of(row, "Bakery", phase)
        system.parts.track(body)
        body["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
        system.server.put_job(body)
    await system.clock.advance(60)
    await system.housekeeping.resync()
    assert (system.table.jobs(), system.parts.finished.count) == ([], 0)
    assert system.sources.deleted == []


async def test_only_jobs_that_are_being_deleted_do_not_report_their_source_as_deleted(
    system: HousekeepingSystem,
) -> None:
    body = job_of("1", "Bakery", of="gone")
    body["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    system.server.put_job(body)
    await system.housekeeping.resync()
    assert system.sources.deleted == []


async def test_a_list_counts_finished_jobs_of_an_earlier_process(system: HousekeepingSystem) -> None:
    system.put_source()
    system.parts.put_job(job_of("1", "Bakery", Phase.SUCCEEDED, cohort="c1-1"))
    await system.housekeeping.resync()
    assert system.parts.finished.count == 1


# Turns


async def test_a_turn_is_made_every_second_and_a_list_every_minute(running: HousekeepingSystem) -> None:
    await running.clock.advance(59)
    assert running.server.count("jobs") == 0
    await running.clock.advance(1)
    assert running.server.count("jobs") == 1
    await running.clock.advance(60)
    assert running.server.count("jobs") == 2


async def test_a_process_that_does_not_lead_deletes_and_touches_nothing_and_is_not_stuck(
    running: HousekeepingSystem,
) -> None:
    running.finish("1")
    running.leads = False
    await running.clock.advance(700)
    assert running.server.requests == []
    assert running.clock.monotonic() == running.housekeeping.last_turn
    running.leads = True
    await running.clock.advance(1)
    assert (running.server.count("delete_jobs"), running.server.count("jobs")) == (1, 1)


async def test_without_the_api_server_housekeeping_says_what_it_waits_for_and_goes_on(
    running: HousekeepingSystem,
) -> None:
    running.server.fail("jobs", *[AWAY] * 3)
    await running.clock.advance(60)
    assert running.housekeeping.waiting_for == "no route"
    await running.clock.advance(3)
    assert running.housekeeping.waiting_for is None
    assert running.clock.monotonic() == running.housekeeping.last_turn


async def test_after_an_outage_the_list_is_read_in_the_next_turn(running: HousekeepingSystem) -> None:
    running.finish("1")
    await running.clock.advance(599)
    running.server.fail("delete_jobs", AWAY)
    await running.clock.advance(1)
    assert running.housekeeping.waiting_for == "no route"
    lists = running.server.count("jobs")
    await running.clock.advance(1)
    assert running.server.count("jobs") == lists + 1
    assert running.housekeeping.waiting_for is None


async def test_a_request_that_is_refused_again_and_again_causes_no_further_lists(running: HousekeepingSystem) -> None:
    running.finish("1")
    await running.clock.advance(600)
    running.server.fail("delete_jobs", *[RequestRefused("a policy forbids it")] * 30)
    running.finish("2")
    await running.clock.advance(590)
    lists = running.server.count("jobs")
    await running.clock.advance(20)
    assert running.server.count("delete_jobs") > 5
    assert running.server.count("jobs") <= lists + 1


async def test_a_deletion_that_is_refused_delays_neither_orphans_nor_the_list(system: HousekeepingSystem) -> None:
    system.finish("1")
    system.parts.track(job_of("2", "Bakery"))
    await system.clock.advance(600)
    system.server.fail("delete_jobs", RequestRefused("a policy forbids it"))
    await system.housekeeping.turn()
    assert system.touched("2") == "2026-03-01T12:10:00.000Z"
    assert system.server.count("jobs") == 1
    assert system.housekeeping.waiting_for == "a policy forbids it"


async def test_deletions_that_are_refused_again_and_again_cause_no_list_in_each_turn(
    running: HousekeepingSystem,
) -> None:
    running.finish("1")
    running.server.fail("delete_jobs", *[RequestRefused("a policy forbids it")] * 1_000)
    await running.clock.advance(600)
    lists = running.server.count("jobs")
    await running.clock.advance(60)
    assert running.housekeeping.waiting_for == "a policy forbids it"
    assert running.server.count("jobs") == lists + 1


async def test_a_job_that_is_gone_when_it_is_touched_ends_no_turn(system: HousekeepingSystem) -> None:
    system.parts.track(job_of("1", "Bakery"))
    await system.clock.advance(PATIENCE_S)
    system.server.fail("annotate_job", Gone("not found"))
    await system.housekeeping.turn()
    assert system.housekeeping.waiting_for is None
