"""What the job table counts, and how it waits until nothing is in flight."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.tracked_job import ACTIVE, IN_FLIGHT, OPEN, JobState
from tests.support.fake_clock import settle
from tests.support.jobs import Register, name_of

MOMENT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
CREATING, QUEUED, RUNNING = JobState.CREATING, JobState.QUEUED, JobState.RUNNING
SETTLING, BACKING_OFF, DEAD_LETTERED = JobState.SETTLING, JobState.BACKING_OFF, JobState.DEAD_LETTERED
NAME = name_of("1")


@pytest.fixture
def register() -> Register:
    return Register()


def test_jobs_are_selected_by_source_and_by_state(register: Register) -> None:
    register.add("1", QUEUED)
    register.add("2", BACKING_OFF)
    register.add("1", QUEUED, source="others")
    assert [job.name for job in register.table.jobs("shops")] == [name_of("1"), name_of("2")]
    assert [job.name for job in register.table.jobs("shops", {BACKING_OFF})] == [name_of("2")]
    assert len(register.table.jobs()) == 3


@pytest.mark.parametrize(
    ("states", "members"),
    [
        (IN_FLIGHT, {RUNNING, SETTLING}),
        (ACTIVE, {CREATING, QUEUED, RUNNING, SETTLING}),
        (OPEN, {CREATING, QUEUED, RUNNING, SETTLING, BACKING_OFF, JobState.POSTPONED, JobState.HELD}),
    ],
    ids=["in flight", "active", "open"],
)
def test_each_count_is_of_its_states(register: Register, states: frozenset[JobState], members: set[JobState]) -> None:
    for state in JobState:
        register.add(state.value.lower(), state)
    assert states == members
    assert register.table.count(states) == len(members)


def test_a_job_counts_in_its_present_state_alone(register: Register) -> None:
    register.add("1", QUEUED)
    register.table.start(NAME)
    register.table.settle(NAME)
    register.table.back_off(NAME, MOMENT)
    assert {state: register.table.count({state}) for state in JobState} == {
        CREATING: 0,
        QUEUED: 0,
        RUNNING: 0,
        SETTLING: 0,
        BACKING_OFF: 1,
        JobState.POSTPONED: 0,
        JobState.HELD: 0,
        DEAD_LETTERED: 0,
    }


def test_a_job_that_was_removed_finished_withdrawn_or_forgotten_counts_no_longer(register: Register) -> None:
    register.table.remove(register.add("1"))
    register.table.finish(register.add("2"))
    register.table.withdraw(register.add("3", CREATING))
    register.add("4")
    register.table.forget_source("shops")
    assert register.table.count(list(JobState)) == 0


def test_jobs_are_counted_for_a_source_and_without_some_sources(register: Register) -> None:
    for source in ("shops", "shops", "others", "idle"):
        register.add(f"{register.table.count(list(JobState))}", source=source)
    assert register.table.count(OPEN, source="shops") == 2
    assert register.table.count(OPEN, excluding={"idle"}) == 3
    assert register.table.count(OPEN) == 4


def test_dead_letters_are_counted_over_all_sources(register: Register) -> None:
    register.add("1", DEAD_LETTERED)
    register.add("1", DEAD_LETTERED, source="others")
    assert register.table.count({DEAD_LETTERED}) == 2


def test_no_job_has_waited_for_its_handler_where_none_is_queued(register: Register) -> None:
    register.add("1", RUNNING)
    assert register.table.longest_queued_s() == 0.0


async def test_of_several_queued_jobs_the_one_that_waits_longest_counts(register: Register) -> None:
    register.add("1")
    await register.clock.advance(2)
    register.add("2")
    await register.clock.advance(8)
    assert register.table.longest_queued_s() == 10.0
    register.table.start(name_of("1"))
    assert register.table.longest_queued_s() == 8.0


async def test_a_table_without_a_job_in_flight_is_drained(register: Register) -> None:
    for state in JobState:
        if state not in IN_FLIGHT:
            register.add(state.value.lower(), state)
    async with asyncio.timeout(60):
        await register.table.wait_until_drained(within_s=600)


END: dict[str, Callable[[JobTable], None]] = {
    "finished": lambda table: table.finish(NAME),
    "backing off": lambda table: table.back_off(NAME, MOMENT),
    "dead-lettered": lambda table: table.mark_dead_letter(NAME),
    "released": lambda table: table.release(NAME),
    "removed": lambda table: table.remove(NAME),
    "its source forgotten": lambda table: table.forget_source("shops"),
}


@pytest.mark.parametrize("end", END.values(), ids=END.keys())
async def test_draining_ends_when_the_last_job_in_flight_leaves_that_state(
    register: Register, end: Callable[[JobTable], None]
) -> None:
    register.add("1", SETTLING)
    other = register.add("2", RUNNING)
    drained = asyncio.create_task(register.table.wait_until_drained(within_s=600))
    await settle()
    register.table.finish(other)
    await settle()
    assert not drained.done()
    end(register.table)
    await settle()
    assert drained.done()


async def test_draining_ends_with_its_time(register: Register) -> None:
    register.add("1", RUNNING)
    drained = asyncio.create_task(register.table.wait_until_drained(within_s=20))
    await register.clock.advance(19.9)
    assert not drained.done()
    await register.clock.advance(0.2)
    assert drained.done()
    assert register.table.count(IN_FLIGHT) == 1
