"""How many jobs may be open, and how many of them a source may create now."""

from dataclasses import dataclass, field

import pytest

from embedding_operator.reconciler.job_table import ACTIVE, OPEN, JobState
from embedding_operator.reconciler.window import (
    MEASURED_OVER_S,
    SMALLEST,
    SMALLEST_SHARE,
    Throughput,
    Usage,
    Window,
    free_places,
    share,
    window_size,
)
from tests.support.jobs import Register

# The share of a source.


@pytest.mark.parametrize("due", [{"mine": 7}, {"mine": 7, "idle": 0}, {"mine": 0}, {}, {"mine": 0, "other": 5}])
def test_a_source_has_the_whole_window_where_it_is_alone_or_has_nothing_due_yet(due: dict[str, int]) -> None:
    assert share(500, due, "mine") == 500


def test_what_is_due_divides_the_window() -> None:
    due = {"large": 300, "small": 100}
    assert share(500, due, "large") == 375
    assert share(500, due, "small") == 125


def test_a_small_source_is_never_starved_by_a_large_one() -> None:
    assert share(500, {"large": 10_000_000, "small": 1}, "small") == SMALLEST_SHARE


@pytest.mark.parametrize("limit", [1, 2, 50, 500])
@pytest.mark.parametrize("due", [{"a": 1, "b": 1}, {"a": 10**9, "b": 3, "c": 400}, {str(n): n + 1 for n in range(20)}])
def test_a_share_is_at_least_one_and_at_most_the_window(limit: int, due: dict[str, int]) -> None:
    assert all(1 <= share(limit, due, source) <= limit for source in due)


@pytest.mark.parametrize("due", [{"a": 100, "b": 1}, {"a": 10**9, "b": 3, "c": 400}, {"a": 7, "b": 7, "c": 7}])
def test_shares_pass_the_window_by_a_few_for_each_small_source(due: dict[str, int]) -> None:
    assert sum(share(50, due, source) for source in due) <= 50 + SMALLEST_SHARE * (len(due) - 1)


# The free places.


def places(active_here: int = 0, active: int = 0, *, opened: int = 0, existing: int = 0, my_share: int = 50) -> int:
    """Of a window of 50, where 500 may be open and 1,500 may exist."""
    used = Usage(active_here, active, opened, existing)
    return free_places(50, used, my_share=my_share, max_open=500, max_existing=1_500)


@pytest.mark.parametrize(
    ("active_here", "active", "my_share", "expected"),
    [
        (0, 0, 50, 50),
        (20, 20, 50, 30),
        (0, 45, 50, 5),
        (0, 50, 50, 0),
        (10, 10, 10, 0),
        (12, 12, 10, 0),
        (0, 60, 50, 0),
        (4, 44, 5, 1),
    ],
)
def test_neither_the_share_nor_the_window_is_passed(
    active_here: int, active: int, my_share: int, expected: int
) -> None:
    assert places(active_here, active, my_share=my_share) == expected


@pytest.mark.parametrize(("opened", "expected"), [(470, 30), (497, 3), (500, 0), (502, 0)])
def test_nor_is_what_may_be_open_at_all_where_most_of_it_backs_off(opened: int, expected: int) -> None:
    assert places(0, 10, opened=opened) == expected


@pytest.mark.parametrize(("existing", "expected"), [(1_450, 50), (1_470, 30), (1_495, 5)])
def test_nor_is_what_may_exist(existing: int, expected: int) -> None:
    assert places(existing=existing) == expected


@pytest.mark.parametrize(("active_here", "expected"), [(0, 5), (3, 2), (5, 0), (8, 0)])
def test_where_others_use_up_what_may_exist_a_source_still_has_a_few_places(active_here: int, expected: int) -> None:
    assert places(active_here, active_here, existing=2_000) == expected


def test_without_reserved_places_it_has_none() -> None:
    used = Usage(active_here=0, active_in_others=0, open_in_others=0, existing=2_000)
    assert free_places(50, used, my_share=50, max_open=500, max_existing=1_500, reserved=0) == 0


# The size of the window.


@pytest.mark.parametrize(
    ("per_s", "expected"), [(0.0, 50), (1.0, 50), (25.0, 50), (26.0, 52), (100.0, 200), (250.0, 500), (10_000.0, 500)]
)
def test_the_window_holds_two_seconds_of_work_between_its_smallest_and_its_limit(per_s: float, expected: int) -> None:
    assert window_size(500, per_s=per_s) == expected


@pytest.mark.parametrize("max_open", [1, 10, SMALLEST])
@pytest.mark.parametrize("per_s", [0.0, 10_000.0])
def test_a_limit_below_the_smallest_window_is_the_window(max_open: int, per_s: float) -> None:
    assert window_size(max_open, per_s=per_s) == max_open


def test_the_throughput_of_nothing_is_zero() -> None:
    assert Throughput().per_s(100.0) == 0.0


def test_the_throughput_is_what_was_done_in_the_last_ten_seconds() -> None:
    throughput = Throughput()
    for n in range(200):
        throughput.record(100.0 + n / 10)  # ten a second, for twenty seconds
    assert throughput.per_s(120.0) == pytest.approx(10.0, rel=0.02)


def test_soon_after_a_start_the_time_since_the_first_job_counts() -> None:
    throughput = Throughput()
    for n in range(100):
        throughput.record(100.0 + n / 50)  # fifty a second, for two seconds
    assert throughput.per_s(102.0) == pytest.approx(50.0)


def test_a_burst_of_one_moment_is_spread_over_a_second() -> None:
    throughput = Throughput()
    for _ in range(64):
        throughput.record(100.0)
    assert throughput.per_s(100.0) == 64.0


def test_a_throughput_is_forgotten_when_nothing_more_is_done() -> None:
    throughput = Throughput()
    throughput.record(100.0)
    assert throughput.per_s(100.0 + MEASURED_OVER_S) > 0
    assert throughput.per_s(100.1 + MEASURED_OVER_S) == 0.0


# The window of all sources.

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
def jobs() -> Windowed:
    return Windowed()


def test_where_no_job_exists_a_source_may_create_as_many_as_the_window_holds(jobs: Windowed) -> None:
    assert (jobs.window.size, jobs.window.free("shops")) == (50, 50)


async def test_the_window_grows_with_the_jobs_that_are_done_and_shrinks_again(jobs: Windowed) -> None:
    for _ in range(40):
        jobs.window.record_done()
    assert jobs.window.size == 80
    await jobs.clock.advance(10.1)
    assert jobs.window.size == 50


def test_the_jobs_of_all_sources_are_in_one_window(jobs: Windowed) -> None:
    jobs.fill(20)
    jobs.fill(10, source="others")
    assert jobs.window.free("shops") == 20


def test_a_job_that_backs_off_takes_no_place_in_the_window_but_counts_as_open(jobs: Windowed) -> None:
    jobs.fill(40, JobState.BACKING_OFF)
    assert jobs.window.free("shops") == 50
    jobs.fill(40, JobState.BACKING_OFF)
    assert jobs.window.free("shops") == 20


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


@pytest.mark.parametrize(("active", "has_room"), [(0, True), (25, True), (26, False), (50, False)])
def test_there_is_room_where_half_of_the_window_is_free(jobs: Windowed, active: int, has_room: bool) -> None:
    jobs.fill(active)
    assert jobs.window.has_room() is has_room


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
                jobs.window.record_done()
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


def test_a_source_that_works_has_places_where_idle_ones_use_up_what_may_exist(jobs: Windowed) -> None:
    for n in range(10):
        jobs.fill(50, source=f"idle-{n}")
        jobs.window.set_idle(f"idle-{n}", True)
    assert jobs.window.free("shops") == SMALLEST_SHARE


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.BACKING_OFF])
def test_no_more_jobs_are_open_than_the_limit_allows(jobs: Windowed, state: JobState) -> None:
    for _ in range(200):
        jobs.window.record_done()
    for _ in range(10):
        jobs.fill(jobs.window.free("shops"), state)
    assert jobs.table.count(OPEN) == MAX_OPEN
    assert jobs.table.count(ACTIVE) <= MAX_OPEN
