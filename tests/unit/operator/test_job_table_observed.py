"""What the job table accepts from the API server: events of the watch, and answers to single requests."""

from datetime import UTC, datetime

import pytest

from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.embedding_job import Phase
from tests.support.jobs import Register, name_of, shown

MOMENT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
CREATING, QUEUED, RUNNING = JobState.CREATING, JobState.QUEUED, JobState.RUNNING
SETTLING, BACKING_OFF, DEAD_LETTERED = JobState.SETTLING, JobState.BACKING_OFF, JobState.DEAD_LETTERED
NAME = name_of("1")


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (None, QUEUED),
        (Phase.PENDING, QUEUED),
        (Phase.RETRYING, BACKING_OFF),
        (Phase.DEAD_LETTERED, DEAD_LETTERED),
    ],
)
def test_a_job_of_an_earlier_process_gets_the_state_of_its_phase(
    register: Register, phase: Phase | None, state: JobState
) -> None:
    assert register.table.observe(shown("1", phase, version=5))
    assert register.state(NAME) is state


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED])
def test_a_job_that_is_shown_finished_is_not_tracked(register: Register, phase: Phase) -> None:
    register.table.observe(shown("1", phase, version=5))
    assert register.state(NAME) is None


def test_of_a_job_of_an_earlier_process_neither_its_mark_nor_an_edit_is_known(register: Register) -> None:
    register.table.observe(shown("1", Phase.RETRYING, version=5, nextAttemptTime="2026-03-01T12:30:00.000Z"))
    job = register.table.get(NAME)
    assert job is not None
    assert (job.source, job.business_id, job.content_hash, job.cohort) == ("shops", "1", "1" * 64, "cohort-1")
    assert (job.newest_mark, job.edited, job.not_before, job.version) == (0, False, MOMENT, 5)


def test_a_job_that_is_shown_before_the_answer_to_its_create_request_is_queued(register: Register) -> None:
    register.add("1", CREATING, newest_mark=7, edited=True)
    register.table.observe(shown("1", version=5))
    job = register.table.get(NAME)
    assert job is not None
    assert (job.state, job.newest_mark, job.edited) == (QUEUED, 7, True)


@pytest.mark.parametrize("state", [RUNNING, SETTLING])
def test_the_answer_to_a_create_request_comes_too_late_to_change_a_job_that_has_started(
    register: Register, state: JobState
) -> None:
    register.add("1", state, version=5)
    register.table.confirm_created(NAME, 4)
    assert register.state(NAME) is state


@pytest.mark.parametrize("state", [QUEUED, RUNNING, SETTLING, BACKING_OFF])
def test_a_job_that_is_tracked_keeps_its_state_when_it_is_shown_open(register: Register, state: JobState) -> None:
    register.add("1", state, version=5)
    assert register.table.observe(shown("1", version=6))
    assert register.state(NAME) is state


@pytest.mark.parametrize("state", [QUEUED, BACKING_OFF, DEAD_LETTERED])
def test_what_is_older_than_what_is_known_is_ignored(register: Register, state: JobState) -> None:
    register.add("1", state, version=5)
    assert not register.table.observe(shown("1", version=4))
    assert register.state(NAME) is state


def test_the_version_that_is_known_is_no_older_one(register: Register) -> None:
    register.add("1", BACKING_OFF, version=5)
    assert register.table.observe(shown("1", Phase.RETRYING, version=5))


def test_each_event_makes_older_ones_out_of_date(register: Register) -> None:
    register.add("1", version=5)
    register.table.observe(shown("1", version=8))
    assert not register.table.observe(shown("1", version=7))


def test_an_old_event_of_a_finished_job_does_not_open_it_again(register: Register) -> None:
    register.add("1", SETTLING, version=5)
    register.table.finish(NAME, 6)
    assert not register.table.observe(shown("1", version=5))
    assert register.state(NAME) is None


def test_a_job_created_again_under_the_name_of_a_finished_one_is_tracked(register: Register) -> None:
    register.add("1", SETTLING, version=5)
    register.table.finish(NAME, 6)
    assert register.table.observe(shown("1", version=9))
    assert (register.state(NAME), register.finished.count) == (QUEUED, 0)


def test_a_dead_letter_that_is_shown_open_again_is_queued(register: Register) -> None:
    register.add("1", DEAD_LETTERED, version=5)
    assert register.table.observe(shown("1", version=6, attempts=6))
    assert register.state(NAME) is QUEUED


def test_a_dead_letter_keeps_what_was_known_of_its_job(register: Register) -> None:
    register.add("1", DEAD_LETTERED, version=5, newest_mark=7, edited=True)
    register.table.observe(shown("1", version=6))
    job = register.table.get(NAME)
    assert job is not None
    assert (job.newest_mark, job.edited) == (7, True)


@pytest.mark.parametrize(
    ("phase", "state"),
    [(Phase.PENDING, QUEUED), (Phase.RETRYING, BACKING_OFF), (Phase.DEAD_LETTERED, DEAD_LETTERED)],
)
@pytest.mark.parametrize("before", JobState)
def test_an_accepted_answer_decides_whatever_the_state_was(
    register: Register, before: JobState, phase: Phase, state: JobState
) -> None:
    register.add("1", before)
    register.table.accept(shown("1", phase, version=5))
    assert register.state(NAME) is state


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED])
@pytest.mark.parametrize("before", JobState)
def test_an_accepted_answer_that_shows_a_final_phase_finishes_the_job(
    register: Register, before: JobState, phase: Phase
) -> None:
    register.add("1", before)
    register.table.accept(shown("1", phase, version=5))
    assert (register.state(NAME), register.finished.version(NAME)) == (None, 5)
