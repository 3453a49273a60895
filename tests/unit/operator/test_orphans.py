"""Which open jobs are orphaned: their time has come, and no handler works on them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from embedding_operator.reconciler.orphans import MAX_AT_ONCE, PATIENCE_S, orphaned
from embedding_operator.reconciler.tracked_job import JobState, TrackedJob
from tests.support.jobs import name_of, tracked

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MONOTONIC = 5_000.0
LONGEST_S, LOCKED_S = 35.0, 60.0
SECOND = timedelta(seconds=1)
PATIENCE = timedelta(seconds=PATIENCE_S)


def job(business: str, state: JobState, *, for_s: float = PATIENCE_S, not_before: datetime | None = None) -> TrackedJob:
    """A job that has been in this state for so many seconds."""
    return replace(tracked(business), state=state, since=MONOTONIC - for_s, not_before=not_before)


def found(*jobs: TrackedJob) -> list[str]:
    return orphaned(
        jobs,
        monotonic=MONOTONIC,
        now=NOW,
        longest_pause_s=lambda source, reason: LOCKED_S if reason == "RowLocked" else LONGEST_S,
    )


@pytest.mark.parametrize(("left_s", "is_orphaned"), [(1, False), (0, True)])
def test_a_job_whose_status_was_refused_is_touched_when_its_pause_is_over(left_s: float, is_orphaned: bool) -> None:
    held = replace(job("1", JobState.HELD, for_s=1), held_until=MONOTONIC + left_s)
    assert found(held) == ([name_of("1")] if is_orphaned else [])


def test_a_job_that_waits_for_its_handler_for_as_long_as_patience_is_orphaned() -> None:
    assert found(job("1", JobState.QUEUED)) == [name_of("1")]


def test_a_job_that_was_queued_a_moment_ago_is_not() -> None:
    assert found(job("1", JobState.QUEUED, for_s=PATIENCE_S - 0.1)) == []


@pytest.mark.parametrize("state", [JobState.CREATING, JobState.RUNNING, JobState.SETTLING, JobState.DEAD_LETTERED])
def test_a_job_that_waits_for_no_handler_is_never_orphaned(state: JobState) -> None:
    assert found(job("1", state, for_s=10 * PATIENCE_S)) == []


@pytest.mark.parametrize(
    ("not_before", "is_orphaned"),
    [
        (NOW + SECOND, False),
        (NOW - SECOND, False),
        (NOW - PATIENCE, False),
        (NOW - PATIENCE - SECOND, True),
        (None, True),
    ],
    ids=["pause goes on", "pause just over", "patience just over", "long over", "no time known"],
)
def test_a_job_that_backs_off_is_orphaned_when_its_pause_is_long_over(
    not_before: datetime | None, is_orphaned: bool
) -> None:
    waiting = job("1", JobState.BACKING_OFF, not_before=not_before)
    assert found(waiting) == ([name_of("1")] if is_orphaned else [])


@pytest.mark.parametrize("not_before", [NOW + timedelta(hours=2), datetime.max.replace(tzinfo=UTC)])
@pytest.mark.parametrize(
    ("for_s", "is_orphaned"), [(LONGEST_S + PATIENCE_S, False), (LONGEST_S + PATIENCE_S + 1, True)]
)
def test_a_time_from_a_wrong_clock_is_not_waited_for(not_before: datetime, for_s: float, is_orphaned: bool) -> None:
    waiting = job("1", JobState.BACKING_OFF, for_s=for_s, not_before=not_before)
    assert found(waiting) == ([name_of("1")] if is_orphaned else [])


def test_a_job_of_a_locked_row_waits_for_the_pause_of_locked_rows() -> None:
    waiting = job("1", JobState.BACKING_OFF, for_s=LONGEST_S + PATIENCE_S + 1, not_before=NOW + SECOND)
    assert found(replace(waiting, reason="RowLocked")) == []


def test_a_time_before_all_calendars_is_over() -> None:
    long_ago = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    assert found(job("1", JobState.BACKING_OFF, not_before=long_ago)) == [name_of("1")]


def test_a_job_that_came_to_its_backoff_a_moment_ago_is_not_orphaned() -> None:
    assert found(job("1", JobState.BACKING_OFF, for_s=PATIENCE_S - 0.1, not_before=NOW - 10 * PATIENCE)) == []


def test_a_few_are_found_at_once_those_that_waited_longest_first() -> None:
    jobs = [job(str(n), JobState.QUEUED, for_s=PATIENCE_S + n) for n in range(MAX_AT_ONCE + 5)]
    assert found(*jobs) == [name_of(str(n)) for n in range(MAX_AT_ONCE + 4, 4, -1)]
