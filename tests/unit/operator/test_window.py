"""How many jobs may be open, and whose turn it is."""

import pytest

from embedding_operator.reconciler.window import (
    MEASURED_OVER_S,
    SMALLEST,
    SMALLEST_SHARE,
    Throughput,
    free,
    share,
    size,
)


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


@pytest.mark.parametrize(
    ("active_here", "active_in_all", "my_share", "expected"),
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
    active_here: int, active_in_all: int, my_share: int, expected: int
) -> None:
    room = free(50, active_here=active_here, active_in_all=active_in_all, my_share=my_share, most=500)
    assert room == expected


@pytest.mark.parametrize(("most", "expected"), [(30, 30), (3, 3), (0, 0), (-2, 0)])
def test_nor_is_what_may_be_open_at_all_where_jobs_in_a_backoff_have_most_of_it(most: int, expected: int) -> None:
    assert free(50, active_here=0, active_in_all=10, my_share=50, most=most) == expected


@pytest.mark.parametrize(
    ("per_s", "expected"), [(0.0, 50), (1.0, 50), (25.0, 50), (26.0, 52), (100.0, 200), (250.0, 500), (10_000.0, 500)]
)
def test_the_window_holds_two_seconds_of_work_between_its_smallest_and_its_most(per_s: float, expected: int) -> None:
    assert size(500, per_s=per_s) == expected


@pytest.mark.parametrize("most", [1, 10, SMALLEST])
@pytest.mark.parametrize("per_s", [0.0, 10_000.0])
def test_whoever_allows_fewer_than_the_smallest_window_gets_what_is_allowed(most: int, per_s: float) -> None:
    assert size(most, per_s=per_s) == most


def test_a_throughput_of_nothing_is_none() -> None:
    assert Throughput().per_s(100.0) == 0.0


def test_a_throughput_is_what_was_settled_in_the_last_ten_seconds() -> None:
    throughput = Throughput()
    for n in range(200):
        throughput.settled(100.0 + n / 10)  # ten a second, for twenty seconds
    assert throughput.per_s(120.0) == pytest.approx(10.0, rel=0.02)


def test_right_after_a_start_what_was_seen_so_far_counts() -> None:
    throughput = Throughput()
    for n in range(100):
        throughput.settled(100.0 + n / 50)  # fifty a second, for two seconds
    assert throughput.per_s(102.0) == pytest.approx(50.0)


def test_a_burst_of_one_moment_is_spread_over_a_second() -> None:
    throughput = Throughput()
    for _ in range(64):
        throughput.settled(100.0)
    assert throughput.per_s(100.0) == 64.0


def test_a_throughput_is_forgotten_when_nothing_settles_any_more() -> None:
    throughput = Throughput()
    throughput.settled(100.0)
    assert throughput.per_s(100.0 + MEASURED_OVER_S) > 0
    assert throughput.per_s(100.1 + MEASURED_OVER_S) == 0.0
