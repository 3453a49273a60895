"""The window's decisions: its size, the share of a source, the free places, and the throughput."""

import pytest

from embedding_operator.reconciler.window import (
    MEASURED_OVER_S,
    SMALLEST,
    SMALLEST_SHARE,
    Throughput,
    Usage,
    free_places,
    share,
    window_size,
)

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


@pytest.mark.parametrize(("opened", "expected"), [(470, 30), (497, 5), (502, 5), (997, 3), (1000, 0)])
def test_where_most_jobs_back_off_a_few_more_may_be_open_up_to_twice_the_limit(opened: int, expected: int) -> None:
    assert places(0, 10, opened=opened) == expected


@pytest.mark.parametrize(("existing", "expected"), [(1_450, 50), (1_470, 30), (1_495, 5)])
def test_nor_is_what_may_exist(existing: int, expected: int) -> None:
    assert places(existing=existing) == expected


@pytest.mark.parametrize(("active_here", "expected"), [(0, 5), (3, 2), (5, 0), (8, 0)])
def test_where_others_use_up_what_may_exist_a_source_still_has_a_few_places(active_here: int, expected: int) -> None:
    assert places(active_here, active_here, existing=2_000) == expected


def test_without_reserved_places_it_has_none() -> None:
    used = Usage(active_here=0, active_in_all=0, open_in_all=0, existing=2_000)
    assert free_places(50, used, my_share=50, max_open=500, max_existing=1_500, reserved=0) == 0


# The size of the window.


@pytest.mark.parametrize(
    ("per_s", "expected"), [(0.0, 200), (1.0, 200), (100.0, 200), (101.0, 202), (250.0, 500), (10_000.0, 500)]
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
