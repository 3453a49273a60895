"""How many jobs may be open, and whose turn it is."""

import pytest

from embedding_operator.reconciler.window import free, share


@pytest.mark.parametrize("due", [{"mine": 7}, {"mine": 7, "idle": 0}, {"mine": 0}, {}, {"mine": 0, "other": 5}])
def test_a_source_has_the_whole_window_where_it_is_alone_or_has_nothing_due_yet(due: dict[str, int]) -> None:
    assert share(500, due, "mine") == 500


def test_what_is_due_divides_the_window() -> None:
    due = {"large": 300, "small": 100}
    assert share(500, due, "large") == 375
    assert share(500, due, "small") == 125


def test_a_small_source_is_never_starved_by_a_large_one() -> None:
    assert share(500, {"large": 10_000_000, "small": 1}, "small") == 1


@pytest.mark.parametrize("limit", [1, 2, 50, 500])
@pytest.mark.parametrize("due", [{"a": 1, "b": 1}, {"a": 10**9, "b": 3, "c": 400}, {str(n): n + 1 for n in range(20)}])
def test_a_share_is_at_least_one_and_at_most_the_window(limit: int, due: dict[str, int]) -> None:
    assert all(1 <= share(limit, due, source) <= limit for source in due)


@pytest.mark.parametrize("due", [{"a": 100, "b": 1}, {"a": 10**9, "b": 3, "c": 400}, {"a": 7, "b": 7, "c": 7}])
def test_shares_pass_the_window_by_no_more_than_one_for_each_small_source(due: dict[str, int]) -> None:
    assert sum(share(50, due, source) for source in due) <= 50 + len(due) - 1


@pytest.mark.parametrize(
    ("open_here", "open_in_all", "my_share", "expected"),
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
    open_here: int, open_in_all: int, my_share: int, expected: int
) -> None:
    assert free(50, open_here=open_here, open_in_all=open_in_all, my_share=my_share) == expected
