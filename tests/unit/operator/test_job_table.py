"""The job table: which transitions it allows, and which it refuses."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from embedding_operator.reconciler.job_table import ImpossibleTransition, JobTable
from embedding_operator.reconciler.tracked_job import JobState
from tests.support.jobs import OTHER_TEXT, Register, name_of, shown, tracked

MOMENT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
CREATING, QUEUED, RUNNING = JobState.CREATING, JobState.QUEUED, JobState.RUNNING
HELD, POSTPONED = JobState.HELD, JobState.POSTPONED
SETTLING, BACKING_OFF, DEAD_LETTERED = JobState.SETTLING, JobState.BACKING_OFF, JobState.DEAD_LETTERED
NAME = name_of("1")

TRANSITIONS: dict[str, Callable[[JobTable], None]] = {
    "start": lambda table: table.start(NAME),
    "postpone": lambda table: table.postpone(NAME, asyncio.Event()),
    "release": lambda table: table.release(NAME),
    "settle": lambda table: table.settle(NAME),
    "back_off": lambda table: table.back_off(NAME, MOMENT),
    "requeue": lambda table: table.requeue(NAME),
    "mark_dead_letter": lambda table: table.mark_dead_letter(NAME),
}
ALLOWED: dict[str, dict[JobState, JobState]] = {
    "start": {QUEUED: RUNNING, BACKING_OFF: RUNNING, HELD: RUNNING},
    "postpone": {RUNNING: POSTPONED},
    "release": {RUNNING: QUEUED, SETTLING: QUEUED, POSTPONED: QUEUED},
    "settle": {RUNNING: SETTLING, QUEUED: SETTLING, BACKING_OFF: SETTLING, HELD: SETTLING},
    "back_off": {SETTLING: BACKING_OFF},
    "requeue": {SETTLING: QUEUED},
    "mark_dead_letter": {SETTLING: DEAD_LETTERED},
}
REFUSED = [(name, state) for name, allowed in ALLOWED.items() for state in JobState if state not in allowed]


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.mark.parametrize(
    ("transition", "before", "after"),
    [(name, *pair) for name, allowed in ALLOWED.items() for pair in allowed.items()],
)
def test_an_allowed_transition_leads_to_its_state(
    register: Register, transition: str, before: JobState, after: JobState
) -> None:
    register.add("1", before)
    TRANSITIONS[transition](register.table)
    assert register.state(NAME) is after


@pytest.mark.parametrize(("transition", "before"), REFUSED)
def test_any_other_transition_raises_and_changes_nothing(register: Register, transition: str, before: JobState) -> None:
    register.add("1", before)
    with pytest.raises(ImpossibleTransition, match=f"job {NAME} is {before.value}"):
        TRANSITIONS[transition](register.table)
    assert register.state(NAME) is before


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_transition_of_a_job_that_was_removed_does_nothing(register: Register, transition: str) -> None:
    TRANSITIONS[transition](register.table)
    assert register.table.jobs() == []


@pytest.mark.parametrize("state", JobState)
def test_a_job_cannot_be_created_while_one_of_its_name_is_tracked(register: Register, state: JobState) -> None:
    register.add("1", state)
    with pytest.raises(ImpossibleTransition, match=f"job {NAME} exists as {state.value}"):
        register.table.begin_create(tracked("1"))


@pytest.mark.parametrize("state", JobState)
def test_only_a_job_that_is_being_created_becomes_queued_by_the_answer(register: Register, state: JobState) -> None:
    register.add("1", state)
    register.table.confirm_created(NAME, 7)
    assert register.state(NAME) is (QUEUED if state is CREATING else state)


@pytest.mark.parametrize("state", JobState)
def test_only_a_job_that_is_being_created_can_be_withdrawn(register: Register, state: JobState) -> None:
    register.add("1", state)
    register.table.withdraw(NAME)
    assert register.state(NAME) is (None if state is CREATING else state)


@pytest.mark.parametrize("state", JobState)
def test_a_job_in_any_state_can_finish(register: Register, state: JobState) -> None:
    register.add("1", state)
    register.table.finish(NAME, 7)
    assert register.state(NAME) is None
    assert (register.finished.members("cohort-1"), register.finished.version(NAME)) == ([NAME], 7)


@pytest.mark.parametrize("state", JobState)
def test_a_job_in_any_state_can_be_removed(register: Register, state: JobState) -> None:
    register.add("1", state)
    register.table.remove(NAME)
    assert (register.state(NAME), register.finished.count) == (None, 0)


def test_a_finished_job_that_is_removed_is_no_finished_job(register: Register) -> None:
    register.table.finish(register.add("1"))
    register.table.remove(NAME)
    assert (register.finished.count, register.finished.version(NAME)) == (0, 0)


def test_what_becomes_of_an_unknown_job_leaves_no_trace(register: Register) -> None:
    register.table.confirm_created("unknown", 1)
    register.table.withdraw("unknown")
    register.table.finish("unknown")
    register.table.remove("unknown")
    register.table.answer_mark("unknown", 1)
    register.table.forget_source("unknown")
    assert (register.table.jobs(), register.finished.count) == ([], 0)


def test_a_job_that_finishes_keeps_the_newest_version_that_was_known(register: Register) -> None:
    register.add("1", version=9)
    register.table.finish(NAME)
    assert register.finished.version(NAME) == 9


def test_the_version_of_a_transition_is_known_afterwards(register: Register) -> None:
    register.add("1", SETTLING, version=5)
    register.table.requeue(NAME, 8)
    job = register.table.get(NAME)
    assert job is not None
    assert job.version == 8


def test_a_job_that_backs_off_knows_when_its_pause_is_over(register: Register) -> None:
    register.add("1", SETTLING)
    register.table.back_off(NAME, MOMENT)
    job = register.table.get(NAME)
    assert job is not None
    assert job.not_before == MOMENT


async def test_a_job_is_in_its_state_since_the_transition(register: Register) -> None:
    register.add("1", QUEUED)
    await register.clock.advance(7)
    register.table.start(NAME)
    job = register.table.get(NAME)
    assert job is not None
    assert job.since == 1_007.0


@pytest.mark.parametrize("state", [QUEUED, DEAD_LETTERED])
def test_an_open_or_dead_job_answers_the_newest_change_mark(register: Register, state: JobState) -> None:
    register.add("1", state)
    register.table.answer_mark(NAME, 7)
    job = register.table.get(NAME)
    assert job is not None
    assert (job.newest_mark, job.state) == (7, state)


def test_the_jobs_of_a_deleted_source_are_forgotten(register: Register) -> None:
    register.add("1")
    register.add("2", DEAD_LETTERED)
    register.add("1", source="others")
    register.table.forget_source("shops")
    assert [job.name for job in register.table.jobs()] == ["others-1-11111111"]


def test_the_end_of_a_superseded_job_leaves_the_job_of_the_new_text_open(register: Register) -> None:
    register.add("1")
    register.add("1", text=OTHER_TEXT)
    register.table.finish(NAME)
    assert [job.content_hash for job in register.table.jobs()] == [OTHER_TEXT]


def test_a_handler_goes_on_with_the_job_that_it_has_postponed_and_with_no_other() -> None:
    register, woken = Register(), asyncio.Event()
    name = register.add("1", RUNNING)
    register.table.postpone(name, woken)
    assert not register.table.resume(name, asyncio.Event())
    assert register.state(name) is POSTPONED
    assert register.table.resume(name, woken)
    assert register.state(name) is RUNNING
    assert not register.table.resume(name, woken)


@pytest.mark.parametrize("event", ["finish", "remove", "release"])
def test_the_handler_of_a_postponed_job_is_woken_when_the_job_gets_another_state(event: str) -> None:
    register, woken = Register(), asyncio.Event()
    name = register.add("1", RUNNING)
    register.table.postpone(name, woken)
    register.table.observe(shown("1"))
    assert not woken.is_set()
    getattr(register.table, event)(name)
    assert woken.is_set()
    assert not register.table.resume(name, woken)
