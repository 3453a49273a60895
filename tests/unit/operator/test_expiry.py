"""Finished jobs go a cohort at a time: when a cohort closes, and when it is cleared."""

import pytest
from embedding_operator.reconciler.expiry import COHORT_S, COHORT_SIZE, Cohorts

AGE_S = 600.0


@pytest.fixture
def cohorts() -> Cohorts:
    return Cohorts("abc123")


def expired(cohorts: Cohorts, now: float, *, most: int = 1_000) -> list[str]:
    return cohorts.expired(now, most=most, age_s=AGE_S)


def test_jobs_made_within_half_a_minute_share_a_cohort(cohorts: Cohorts) -> None:
    assert {cohorts.label(100.0 + second) for second in (0, 1, 29.9)} == {"abc123-1"}


def test_a_cohort_closes_after_half_a_minute(cohorts: Cohorts) -> None:
    cohorts.label(100.0)
    assert cohorts.label(100.0 + COHORT_S) == "abc123-2"


def test_a_cohorts_half_minute_begins_with_its_own_first_job(cohorts: Cohorts) -> None:
    cohorts.label(0.0)
    cohorts.label(50.0)
    assert cohorts.label(79.0) == "abc123-2"


def test_a_cohort_closes_when_it_is_full(cohorts: Cohorts) -> None:
    labels = [cohorts.label(100.0) for _ in range(2 * COHORT_SIZE + 1)]
    assert [labels.count(f"abc123-{number}") for number in (1, 2, 3)] == [COHORT_SIZE, COHORT_SIZE, 1]


def test_a_cohort_goes_when_its_youngest_finish_is_old_enough(cohorts: Cohorts) -> None:
    cohorts.finished("one", 0.0)
    cohorts.finished("one", 100.0)
    assert expired(cohorts, 100.0 + AGE_S - 0.1) == []
    assert expired(cohorts, 100.0 + AGE_S) == ["one"]


def test_too_many_finished_jobs_go_oldest_first_and_no_more_than_needed(cohorts: Cohorts) -> None:
    for moment, label in enumerate(["old", "old", "middle", "middle", "young"]):
        cohorts.finished(label, float(moment))
    assert expired(cohorts, 5.0, most=5) == []
    assert expired(cohorts, 5.0, most=4) == ["old"]
    assert expired(cohorts, 5.0, most=2) == ["old", "middle"]
    assert expired(cohorts, 5.0, most=0) == ["old", "middle", "young"]


def test_a_late_finish_makes_its_cohort_young_again(cohorts: Cohorts) -> None:
    cohorts.finished("one", 0.0)
    cohorts.finished("two", 1.0)
    cohorts.finished("one", 2.0)
    assert expired(cohorts, 3.0, most=2) == ["two"]


def test_finishes_that_are_told_out_of_order_make_no_cohort_older(cohorts: Cohorts) -> None:
    cohorts.finished("one", 100.0)
    cohorts.finished("one", 50.0)
    assert expired(cohorts, 50.0 + AGE_S) == []


def test_a_cleared_cohort_is_not_cleared_again(cohorts: Cohorts) -> None:
    cohorts.finished("one", 0.0)
    cohorts.cleared("one")
    cohorts.cleared("one")
    assert expired(cohorts, AGE_S) == []


def test_a_finish_after_the_clearing_is_cleared_in_its_turn(cohorts: Cohorts) -> None:
    cohorts.finished("one", 0.0)
    cohorts.cleared("one")
    cohorts.finished("one", 500.0)
    assert expired(cohorts, AGE_S) == []
    assert expired(cohorts, 500.0 + AGE_S) == ["one"]


def test_a_list_says_what_was_missed_and_counts_it_as_finished_now(cohorts: Cohorts) -> None:
    cohorts.corrected(["from before", "from before"], 100.0)
    assert expired(cohorts, 99.0 + AGE_S) == []
    assert expired(cohorts, 100.0 + AGE_S) == ["from before"]
    assert expired(cohorts, 100.0, most=1) == ["from before"]


def test_a_list_leaves_the_time_of_what_is_known(cohorts: Cohorts) -> None:
    cohorts.finished("one", 0.0)
    cohorts.corrected(["one", "one"], 500.0)
    assert expired(cohorts, AGE_S) == ["one"]


def test_a_list_forgets_what_somebody_else_has_deleted(cohorts: Cohorts) -> None:
    cohorts.finished("one", 0.0)
    cohorts.corrected([], 1.0)
    assert expired(cohorts, AGE_S) == []


def test_a_job_without_a_cohort_is_left_to_who_made_it(cohorts: Cohorts) -> None:
    cohorts.finished("", 0.0)
    cohorts.corrected(["", ""], 1.0)
    assert expired(cohorts, 10 * AGE_S, most=0) == []
