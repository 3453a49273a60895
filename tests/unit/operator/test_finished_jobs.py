"""Finished jobs expire a cohort at a time; and old events of them are recognised."""

import pytest

from embedding_operator.reconciler.finished_jobs import COHORT_S, COHORT_SIZE, FinishedJobs
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase
from tests.support.jobs import name_of, shown

AGE_S = 600.0


@pytest.fixture
def finished() -> FinishedJobs:
    return FinishedJobs("abc123")


def expired(finished: FinishedJobs, now: float, *, max_kept: int = 1_000) -> list[str]:
    return finished.expired(now, max_kept=max_kept, age_s=AGE_S)


def add(finished: FinishedJobs, *labels: str, at: float = 0.0, version: int = 1) -> None:
    """One more job of each cohort has finished."""
    for label in labels:
        finished.add(label, f"job-{finished.count}", version=version, now=at)


def listed(business: str, *, cohort: str = "one", version: int = 5) -> EmbeddingJob:
    return shown(business, Phase.SUCCEEDED, version=version, cohort=cohort)


# The cohort of a new job.


def test_jobs_created_within_half_a_minute_share_a_cohort(finished: FinishedJobs) -> None:
    assert {finished.next_label(100.0 + second) for second in (0, 1, 29.9)} == {"abc123-1"}


def test_a_cohort_closes_after_half_a_minute(finished: FinishedJobs) -> None:
    finished.next_label(100.0)
    assert finished.next_label(100.0 + COHORT_S) == "abc123-2"


def test_a_cohorts_half_minute_begins_with_its_own_first_job(finished: FinishedJobs) -> None:
    finished.next_label(0.0)
    finished.next_label(50.0)
    assert finished.next_label(79.0) == "abc123-2"


def test_a_cohort_closes_when_it_is_full(finished: FinishedJobs) -> None:
    labels = [finished.next_label(100.0) for _ in range(2 * COHORT_SIZE + 1)]
    assert [labels.count(f"abc123-{number}") for number in (1, 2, 3)] == [COHORT_SIZE, COHORT_SIZE, 1]


# Which cohorts expire.


def test_a_cohort_expires_when_its_youngest_finish_is_old_enough(finished: FinishedJobs) -> None:
    add(finished, "one", at=0.0)
    add(finished, "one", at=100.0)
    assert expired(finished, 100.0 + AGE_S - 0.1) == []
    assert expired(finished, 100.0 + AGE_S) == ["one"]


def test_of_too_many_finished_jobs_the_oldest_expire(finished: FinishedJobs) -> None:
    for moment, label in enumerate(["old", "old", "middle", "middle", "young"]):
        add(finished, label, at=float(moment))
    assert expired(finished, 5.0, max_kept=5) == []
    assert expired(finished, 5.0, max_kept=4) == ["old"]
    assert expired(finished, 5.0, max_kept=2) == ["old", "middle"]
    assert expired(finished, 5.0, max_kept=0) == ["old", "middle", "young"]


def test_if_too_many_are_kept_some_more_expire_so_that_others_may_finish_meanwhile(finished: FinishedJobs) -> None:
    for moment in range(600):
        add(finished, f"{moment // 50}", at=moment / 600)
    assert expired(finished, 1.0, max_kept=600) == []
    assert expired(finished, 1.0, max_kept=599) == ["0", "1", "2", "3", "4"], "201 are too many"
    assert expired(finished, 1.0, max_kept=100) == [str(number) for number in range(11)], "540 are too many"


def test_a_late_finish_makes_its_cohort_young_again(finished: FinishedJobs) -> None:
    add(finished, "one", at=0.0)
    add(finished, "two", at=1.0)
    add(finished, "one", at=2.0)
    assert expired(finished, 3.0, max_kept=2) == ["two"]


def test_finishes_that_are_recorded_out_of_order_make_no_cohort_older(finished: FinishedJobs) -> None:
    add(finished, "one", at=100.0)
    add(finished, "one", at=50.0)
    assert expired(finished, 50.0 + AGE_S) == []


def test_a_cohort_whose_jobs_were_all_removed_does_not_expire_again(finished: FinishedJobs) -> None:
    add(finished, "one", "one")
    for name in finished.members("one"):
        finished.remove(name)
    assert (expired(finished, AGE_S), finished.count, finished.members("one")) == ([], 0, [])


def test_a_job_that_finishes_while_its_cohort_is_deleted_expires_in_its_turn(finished: FinishedJobs) -> None:
    finished.add("one", "early", version=1, now=0.0)
    finished.add("one", "late", version=1, now=500.0)
    finished.remove("early")
    assert expired(finished, AGE_S) == []
    assert expired(finished, 500.0 + AGE_S) == ["one"]


def test_a_job_without_a_cohort_is_left_to_the_person_who_created_it(finished: FinishedJobs) -> None:
    finished.add("", "by-hand", version=7, now=0.0)
    assert expired(finished, 10 * AGE_S, max_kept=0) == []
    assert (finished.count, finished.version("by-hand")) == (0, 7)


def test_jobs_without_a_cohort_make_no_other_job_expire(finished: FinishedJobs) -> None:
    finished.add("", "by-hand", version=1, now=0.0)
    add(finished, "one")
    assert expired(finished, 1.0, max_kept=1) == []


# What is known of each.


def test_a_finished_job_has_the_version_with_which_it_finished(finished: FinishedJobs) -> None:
    finished.add("one", "job", version=7, now=0.0)
    assert (finished.version("job"), finished.version("unknown")) == (7, 0)


def test_a_job_that_finishes_twice_is_counted_once_and_in_its_newest_cohort(finished: FinishedJobs) -> None:
    finished.add("one", "job", version=7, now=0.0)
    finished.add("two", "job", version=9, now=1.0)
    assert (finished.count, finished.members("one"), finished.members("two")) == (1, [], ["job"])
    assert finished.version("job") == 9


def test_a_job_that_is_not_known_can_be_removed(finished: FinishedJobs) -> None:
    finished.remove("unknown")
    assert finished.count == 0


# Lists.


def test_a_job_that_a_list_shows_for_the_first_time_counts_as_finished_now(finished: FinishedJobs) -> None:
    finished.resync([listed("1"), listed("2")], keep=(), now=100.0)
    assert finished.version(name_of("1")) == 5
    assert expired(finished, 99.9 + AGE_S) == []
    assert expired(finished, 100.0 + AGE_S) == ["one"]
    assert expired(finished, 100.0, max_kept=1) == ["one"]


def test_a_list_leaves_the_time_of_a_job_that_is_known_and_has_its_version(finished: FinishedJobs) -> None:
    finished.add("one", name_of("1"), version=9, now=0.0)
    finished.resync([listed("1", version=5)], keep=(), now=500.0)
    assert expired(finished, AGE_S) == ["one"]
    assert finished.version(name_of("1")) == 5


def test_a_list_forgets_what_someone_else_has_deleted(finished: FinishedJobs) -> None:
    finished.add("one", name_of("1"), version=1, now=0.0)
    finished.resync([], keep=(), now=1.0)
    assert finished.count == 0


def test_a_list_keeps_what_has_finished_after_it_was_requested(finished: FinishedJobs) -> None:
    finished.add("one", name_of("1"), version=1, now=2.0)
    finished.resync([], keep={name_of("1")}, now=1.0)
    assert finished.members("one") == [name_of("1")]


def test_a_listed_job_without_a_cohort_never_expires(finished: FinishedJobs) -> None:
    finished.resync([listed("1", cohort="")], keep=(), now=1.0)
    assert expired(finished, 10 * AGE_S, max_kept=0) == []
