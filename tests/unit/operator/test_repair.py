"""Which open jobs nobody works on, though somebody should."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from embedding_operator.reconciler.repair import MOST_AT_ONCE, PATIENCE, forsaken

from embedding_operator.resources.embedding_job import EmbeddingJob, Phase, parsed_job
from tests.support.manifests import a_job

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LONG_AGO = NOW - PATIENCE - SECOND


def job(name: str = "any", phase: Phase = Phase.PENDING, *, made: datetime = LONG_AGO, **status: Any) -> EmbeddingJob:
    body = a_job(name) | {"status": {"phase": phase} | status}
    body["metadata"]["creationTimestamp"] = made.isoformat()
    return parsed_job(body)


def names(*jobs: EmbeddingJob, in_hand: frozenset[str] = frozenset()) -> list[str]:
    return [found.name for found in forsaken(jobs, in_hand=in_hand, now=NOW)]


def test_an_open_job_that_lies_for_longer_than_patience_is_forsaken() -> None:
    assert names(job()) == ["any"]


def test_a_job_that_was_just_made_is_given_its_time() -> None:
    assert names(job(made=NOW - PATIENCE)) == []


def test_a_job_that_a_handler_has_in_hand_is_not_forsaken() -> None:
    assert names(job(), in_hand=frozenset({"any"})) == []


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED, Phase.DEAD_LETTERED], ids=str)
def test_a_job_that_is_over_needs_nobody(phase: Phase) -> None:
    assert names(job(phase=phase)) == []


def test_a_retrying_job_is_forsaken_only_when_its_own_time_is_long_over() -> None:
    waiting = job("waiting", Phase.RETRYING, nextAttemptTime=NOW + SECOND)
    just_due = job("just-due", Phase.RETRYING, nextAttemptTime=NOW - SECOND)
    overdue = job("overdue", Phase.RETRYING, nextAttemptTime=LONG_AGO)
    assert names(waiting, just_due, overdue) == ["overdue"]


def test_a_retrying_job_without_a_time_goes_by_its_age() -> None:
    assert names(job(phase=Phase.RETRYING, nextAttemptTime=None)) == ["any"]


def test_a_few_are_taken_at_once_and_the_oldest_first() -> None:
    jobs = [job(f"job-{n}", made=LONG_AGO - n * SECOND) for n in range(MOST_AT_ONCE + 5)]
    assert names(*jobs) == [f"job-{n}" for n in range(MOST_AT_ONCE + 4, 4, -1)]
