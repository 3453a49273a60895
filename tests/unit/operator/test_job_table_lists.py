"""How the job table agrees with a list of all jobs that was requested a moment ago."""

import pytest

from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase
from tests.support.jobs import OTHER_TEXT, Register, name_of, shown

CREATING, QUEUED, RUNNING = JobState.CREATING, JobState.QUEUED, JobState.RUNNING
POSTPONED = JobState.POSTPONED
SETTLING, BACKING_OFF, DEAD_LETTERED = JobState.SETTLING, JobState.BACKING_OFF, JobState.DEAD_LETTERED
NAME = name_of("1")


@pytest.fixture
def register() -> Register:
    return Register()


async def resync_with(register: Register, *jobs: EmbeddingJob) -> None:
    """A list that is requested some time after everything that has happened so far."""
    await register.clock.advance(10)
    register.table.resync(jobs, listed_at=register.clock.monotonic())


async def test_a_list_brings_what_the_watch_has_missed(register: Register) -> None:
    await resync_with(
        register,
        shown("1"),
        shown("2", Phase.RETRYING),
        shown("3", Phase.DEAD_LETTERED),
        shown("4", Phase.SUCCEEDED, version=5),
        shown("5", Phase.SUPERSEDED, version=6),
    )
    assert [register.state(name_of(n)) for n in "12345"] == [QUEUED, BACKING_OFF, DEAD_LETTERED, None, None]
    assert (register.finished.count, register.finished.version(name_of("4"))) == (2, 5)


@pytest.mark.parametrize("state", [QUEUED, BACKING_OFF, POSTPONED, DEAD_LETTERED])
async def test_a_list_without_a_job_removes_it(register: Register, state: JobState) -> None:
    register.add("1", state)
    await resync_with(register)
    assert register.state(NAME) is None


async def test_a_list_without_a_job_whose_create_request_may_be_under_way_keeps_it(register: Register) -> None:
    register.add("1", CREATING)
    await resync_with(register)
    assert register.state(NAME) is CREATING


async def test_a_job_that_no_list_shows_a_minute_after_its_create_request_is_removed(register: Register) -> None:
    register.add("1", CREATING)
    await register.clock.advance(60)
    await resync_with(register)
    assert register.state(NAME) is None


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RETRYING])
async def test_a_job_that_waits_for_the_provider_still_waits_after_a_list_that_shows_it_open(
    register: Register, phase: Phase
) -> None:
    register.add("1", POSTPONED)
    await resync_with(register, shown("1", phase, version=7))
    job = register.table.get(NAME)
    assert job is not None
    assert (job.state, job.version) == (POSTPONED, 7)


@pytest.mark.parametrize("state", [CREATING, QUEUED, BACKING_OFF, POSTPONED, DEAD_LETTERED])
async def test_a_list_that_shows_a_job_finished_finishes_it(register: Register, state: JobState) -> None:
    register.add("1", state)
    await resync_with(register, shown("1", Phase.SUCCEEDED, version=5))
    assert (register.state(NAME), register.finished.members("cohort-1")) == (None, [NAME])


@pytest.mark.parametrize("state", [RUNNING, SETTLING])
@pytest.mark.parametrize("listed", [None, Phase.PENDING, Phase.DEAD_LETTERED, Phase.SUCCEEDED])
async def test_a_list_leaves_a_job_in_flight_to_its_handler(
    register: Register, state: JobState, listed: Phase | None
) -> None:
    register.add("1", state)
    await resync_with(register, *([] if listed is None else [shown("1", listed, version=5)]))
    assert register.state(NAME) is state


async def test_a_job_that_a_person_has_made_a_dead_letter_is_one(register: Register) -> None:
    register.add("1", QUEUED)
    await resync_with(register, shown("1", Phase.DEAD_LETTERED, version=5))
    assert register.state(NAME) is DEAD_LETTERED


async def test_a_dead_letter_whose_replay_the_watch_has_missed_is_queued(register: Register) -> None:
    register.add("1", DEAD_LETTERED)
    await resync_with(register, shown("1", version=5, attempts=6))
    assert register.state(NAME) is QUEUED


async def test_a_job_whose_create_request_got_no_answer_is_queued_by_a_list_that_shows_it(register: Register) -> None:
    register.add("1", CREATING, newest_mark=7)
    await resync_with(register, shown("1", version=5))
    job = register.table.get(NAME)
    assert job is not None
    assert (job.state, job.newest_mark) == (QUEUED, 7)


async def test_a_list_that_agrees_leaves_everything_as_it_is(register: Register) -> None:
    register.add("1", QUEUED, newest_mark=7)
    register.add("2", BACKING_OFF)
    register.add("3", DEAD_LETTERED, newest_mark=8)
    before = register.table.jobs()
    await resync_with(register, shown("1"), shown("2", Phase.RETRYING), shown("3", Phase.DEAD_LETTERED))
    assert register.table.jobs() == before


async def test_a_list_with_a_dead_letter_of_another_text_knows_nothing_of_its_marks(register: Register) -> None:
    register.add("1", DEAD_LETTERED, newest_mark=7)
    await resync_with(register, shown("1", Phase.DEAD_LETTERED, text=OTHER_TEXT))
    (job,) = register.table.jobs()
    assert (job.content_hash, job.newest_mark) == (OTHER_TEXT, 0)


async def test_a_list_keeps_what_was_created_after_it_was_requested(register: Register) -> None:
    listed_at = register.clock.monotonic()
    register.add("1", CREATING)  # at the very moment
    await register.clock.advance(1)
    register.add("2")
    register.table.resync([], listed_at=listed_at)
    assert [register.state(name_of(n)) for n in "12"] == [CREATING, QUEUED]


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.DEAD_LETTERED])
async def test_a_list_does_not_bring_back_what_was_removed_after_it_was_requested(
    register: Register, phase: Phase
) -> None:
    register.add("1")
    await register.clock.advance(1)
    listed_at = register.clock.monotonic()
    register.table.remove(NAME)
    register.table.resync([shown("1", phase)], listed_at=listed_at)
    assert register.state(NAME) is None


async def test_a_list_does_not_open_a_job_that_finished_after_it_was_requested(register: Register) -> None:
    register.add("1", SETTLING)
    await register.clock.advance(1)
    listed_at = register.clock.monotonic()
    register.table.finish(NAME, 6)
    register.table.resync([shown("1", version=5)], listed_at=listed_at)
    assert (register.state(NAME), register.finished.members("cohort-1")) == (None, [NAME])


async def test_a_list_does_not_lose_a_dead_letter_that_is_younger_than_it(register: Register) -> None:
    register.add("1", SETTLING)
    await register.clock.advance(1)
    listed_at = register.clock.monotonic()
    register.table.mark_dead_letter(NAME, 6)
    register.table.resync([shown("1", version=5)], listed_at=listed_at)
    assert register.state(NAME) is DEAD_LETTERED


async def test_a_list_does_not_undo_a_replay_that_is_younger_than_it(register: Register) -> None:
    register.add("1", DEAD_LETTERED, version=5)
    await register.clock.advance(1)
    listed_at = register.clock.monotonic()
    register.table.observe(shown("1", version=6, attempts=6))
    register.table.resync([shown("1", Phase.DEAD_LETTERED, version=5)], listed_at=listed_at)
    assert register.state(NAME) is QUEUED


async def test_a_change_before_one_list_does_not_protect_a_job_from_the_next(register: Register) -> None:
    register.add("1")
    await resync_with(register, shown("1"))
    await resync_with(register)
    assert register.state(NAME) is None


async def test_after_a_list_of_a_restored_api_server_lower_versions_are_observed_again(register: Register) -> None:
    register.add("1", QUEUED, version=900)
    register.table.finish(register.add("2"), 900)
    restored = [shown("1", version=5), shown("2", Phase.SUCCEEDED, version=6)]
    assert not register.table.observe(restored[0])
    await resync_with(register, *restored)
    assert register.table.observe(shown("1", version=7))
    assert register.finished.version(name_of("2")) == 6


async def test_a_list_forgets_finished_jobs_that_someone_has_deleted(register: Register) -> None:
    register.table.finish(register.add("1"))
    await resync_with(register)
    assert register.finished.count == 0
