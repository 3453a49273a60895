"""The window of all sources: how many jobs each may create now, and the bounds that hold whatever the load."""

from dataclasses import dataclass, field

import pytest

from embedding_operator.reconciler import window
from embedding_operator.reconciler.tracked_job import ACTIVE, OPEN, JobState
from embedding_operator.reconciler.window import SMALLEST_SHARE, Window
from tests.support.jobs import Register

MAX_OPEN, MAX_FINISHED = 100, 30


@dataclass
class Windowed(Register):
    """A window of 50 to 100 jobs, where 30 finished ones are kept."""

    window: Window = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.window = Window(self.table, self.finished, max_open=MAX_OPEN, max_finished=MAX_FINISHED, clock=self.clock)

    def fill(self, number: int, state: JobState = JobState.QUEUED, *, source: str = "shops") -> list[str]:
        """So many more jobs of this source, in this state."""
        first = self.table.count(list(JobState)) + self.finished.count
        return [self.add(f"{first + n}", state, source=source) for n in range(number)]

    def finish(self, number: int) -> None:
        """So many more finished jobs."""
        for name in self.fill(number):
            self.table.finish(name)

    @property
    def existing(self) -> int:
        return self.table.count(OPEN) + self.finished.count


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Windowed:
    monkeypatch.setattr(window, "SMALLEST", 50)
    return Windowed()


def test_where_no_job_exists_a_source_may_create_as_many_as_the_window_holds(jobs: Windowed) -> None:
    assert (jobs.window.size, jobs.window.free("shops")) == (50, 50)


async def test_the_window_grows_with_the_jobs_that_are_done_and_shrinks_again(jobs: Windowed) -> None:
    for _ in range(40):
        jobs.window.record_done("shops")
    assert jobs.window.size == 80
    await jobs.clock.advance(10.1)
    assert jobs.window.size == 50


def test_a_source_that_may_begin_a_backfill_soon_has_a_small_share_until_that_is_decided(jobs: Windowed) -> None:
    for _ in range(50):
        jobs.window.record_done("shops")
    jobs.window.set_undecided("shops", True)
    jobs.fill(20)
    assert (jobs.window.size, jobs.window.free("shops"), jobs.window.free("others")) == (100, 30, 80)
    jobs.window.set_undecided("shops", False)
    assert jobs.window.free("shops") == 80


def test_the_places_that_jobs_will_leave_are_free_when_they_are_finished(jobs: Windowed) -> None:
    jobs.fill(30)
    jobs.fill(60, JobState.BACKING_OFF)
    assert (jobs.window.free("shops"), jobs.window.free("shops", after=30)) == (10, 40)


def test_the_jobs_of_all_sources_are_in_one_window(jobs: Windowed) -> None:
    jobs.fill(20)
    jobs.fill(10, source="others")
    assert jobs.window.free("shops") == 20


def test_a_job_that_backs_off_takes_no_place_in_the_window_but_counts_as_open(jobs: Windowed) -> None:
    jobs.fill(40, JobState.BACKING_OFF)
    assert jobs.window.free("shops") == 50
    jobs.fill(40, JobState.BACKING_OFF)
    assert jobs.window.free("shops") == 20


def test_a_job_that_waits_until_the_provider_can_be_called_takes_no_place_in_the_window_but_counts_as_open(
    jobs: Windowed,
) -> None:
    jobs.fill(40, JobState.POSTPONED)
    assert (jobs.window.free("shops"), jobs.window.free("others")) == (50, 50)
    jobs.fill(40, JobState.POSTPONED)
    assert (jobs.window.free("shops"), jobs.window.free("others")) == (20, 20)


def test_while_the_provider_of_a_source_cannot_be_called_it_gets_no_more_jobs_than_the_window_holds(
    jobs: Windowed,
) -> None:
    jobs.fill(40, JobState.POSTPONED, source="idle")
    jobs.window.set_idle("idle", True)
    assert (jobs.window.free("idle"), jobs.window.free("shops")) == (10, 50)


def test_a_dead_letter_takes_no_place(jobs: Windowed) -> None:
    jobs.fill(200, JobState.DEAD_LETTERED)
    assert jobs.window.free("shops") == 50


def test_what_is_due_in_each_source_divides_the_window(jobs: Windowed) -> None:
    jobs.window.record_due("shops", 300)
    jobs.window.record_due("others", 100)
    assert (jobs.window.free("shops"), jobs.window.free("others")) == (37, 12)


def test_the_jobs_and_the_due_rows_of_an_idle_source_leave_the_window_to_the_others(jobs: Windowed) -> None:
    jobs.fill(50, source="idle")
    jobs.window.record_due("idle", 1_000)
    jobs.window.record_due("shops", 10)
    assert jobs.window.free("shops") == 0
    jobs.window.set_idle("idle", True)
    assert jobs.window.free("shops") == 50


def test_an_idle_source_keeps_its_own_bound(jobs: Windowed) -> None:
    jobs.fill(40, source="idle")
    jobs.window.set_idle("idle", True)
    assert jobs.window.free("idle") == 10


def test_a_source_that_works_again_takes_its_places_back(jobs: Windowed) -> None:
    jobs.fill(50, source="idle")
    jobs.window.set_idle("idle", True)
    jobs.window.set_idle("idle", False)
    assert jobs.window.free("shops") == 0


def test_a_source_that_was_deleted_has_no_share(jobs: Windowed) -> None:
    jobs.window.record_due("shops", 100)
    jobs.window.record_due("deleted", 300)
    jobs.window.set_idle("deleted", True)
    jobs.window.forget("deleted")
    assert jobs.window.free("shops") == 50


def test_a_source_that_is_created_again_is_not_idle_as_its_predecessor_was(jobs: Windowed) -> None:
    jobs.window.set_idle("again", True)
    jobs.window.forget("again")
    jobs.fill(50, source="again")
    assert jobs.window.free("shops") == 0


@pytest.mark.parametrize(("active", "has_room"), [(0, True), (25, True), (26, False), (50, False)])
def test_there_is_room_where_half_of_the_window_is_free(jobs: Windowed, active: int, has_room: bool) -> None:
    jobs.fill(active)
    assert jobs.window.has_room() is has_room


def test_there_is_no_room_while_finished_jobs_take_it_so_that_no_sweep_looks_for_rows_in_vain(jobs: Windowed) -> None:
    jobs.finish(MAX_OPEN + MAX_FINISHED - 1)
    assert jobs.window.has_room()
    jobs.finish(1)
    assert (jobs.window.has_room(), jobs.window.free("shops")) == (False, 0)


def test_there_is_room_for_others_while_an_idle_source_keeps_its_jobs(jobs: Windowed) -> None:
    jobs.window.set_idle("away", True)
    jobs.fill(MAX_OPEN, JobState.POSTPONED, source="away")
    jobs.finish(MAX_FINISHED + 1)
    assert (jobs.window.has_room(), jobs.window.free("shops")) == (True, 50)


def test_there_is_room_for_a_few_while_so_many_jobs_back_off(jobs: Windowed) -> None:
    jobs.fill(MAX_OPEN, JobState.BACKING_OFF)
    jobs.finish(MAX_FINISHED)
    assert (jobs.window.has_room(), jobs.window.free("shops")) == (True, SMALLEST_SHARE)


# Bounds, whatever the load.


def test_finished_jobs_that_have_not_expired_leave_less_room(jobs: Windowed) -> None:
    jobs.finish(MAX_OPEN + MAX_FINISHED - 20)
    assert jobs.window.free("shops") == 20


def test_creating_jobs_waits_where_finished_ones_do_not_expire(jobs: Windowed) -> None:
    jobs.finish(MAX_OPEN + MAX_FINISHED)
    assert jobs.window.free("shops") == 0


@pytest.mark.parametrize("sources", [1, 3])
def test_what_exists_is_bounded_however_fast_jobs_finish_and_even_if_none_expires(jobs: Windowed, sources: int) -> None:
    names = [f"source-{n}" for n in range(sources)]
    for source in names:
        jobs.window.record_due(source, 10_000)
    for _ in range(100):
        for source in names:
            for name in jobs.fill(jobs.window.free(source), source=source):
                jobs.table.finish(name)
                jobs.window.record_done(source)
    assert jobs.existing <= MAX_OPEN + MAX_FINISHED


def test_creating_goes_on_when_finished_jobs_have_expired(jobs: Windowed) -> None:
    jobs.finish(MAX_OPEN + MAX_FINISHED)
    for label in jobs.finished.expired(0.0, max_kept=MAX_FINISHED, age_s=600):
        for name in jobs.finished.members(label):
            jobs.finished.remove(name)
    assert jobs.window.free("shops") == 50


def test_what_exists_is_bounded_where_one_source_after_the_other_becomes_idle(jobs: Windowed) -> None:
    names = [f"source-{n}" for n in range(10)]
    for source in names:
        for _ in range(10):
            jobs.fill(jobs.window.free(source), source=source)
        jobs.window.set_idle(source, True)
    assert jobs.existing <= 2 * MAX_OPEN + MAX_FINISHED + len(names) * SMALLEST_SHARE


@pytest.mark.parametrize(
    ("finished", "expected"), [(0, SMALLEST_SHARE), (MAX_FINISHED, SMALLEST_SHARE), (MAX_FINISHED + 1, 0)]
)
def test_where_idle_sources_use_up_what_may_exist_a_source_has_places_unless_finished_jobs_wait_to_expire(
    jobs: Windowed, finished: int, expected: int
) -> None:
    jobs.finish(finished)
    for n in range(10):
        jobs.fill(50, source=f"idle-{n}")
        jobs.window.set_idle(f"idle-{n}", True)
    assert jobs.window.free("shops") == expected


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.BACKING_OFF])
def test_no_more_jobs_are_open_than_the_limit_allows(jobs: Windowed, state: JobState) -> None:
    for _ in range(200):
        jobs.window.record_done("shops")
    for _ in range(50):
        jobs.fill(jobs.window.free("shops"), state)
    assert jobs.table.count(OPEN) == MAX_OPEN * (2 if state is JobState.BACKING_OFF else 1)
    assert jobs.table.count(ACTIVE) <= MAX_OPEN


def test_jobs_that_back_off_leave_places_for_every_source(jobs: Windowed) -> None:
    jobs.fill(MAX_OPEN, JobState.BACKING_OFF)
    assert (jobs.window.free("shops"), jobs.window.free("others")) == (SMALLEST_SHARE, SMALLEST_SHARE)
