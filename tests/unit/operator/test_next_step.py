"""What is to be done with a job, from its state alone."""

from typing import Any

import pytest

from embedding_operator.lifecycle.next_step import Step, next_step
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase, parse_job
from tests.support.manifests import a_job

MOMENT = "2026-03-01T12:00:00Z"


def job(phase: Phase | None = None, **status: Any) -> EmbeddingJob:
    said = status | ({"phase": phase} if phase else {})
    return parse_job(a_job("any") | ({"status": said} if said else {}))


@pytest.mark.parametrize(
    ("phase", "step"),
    [
        (Phase.PENDING, Step.EMBED),
        (Phase.RETRYING, Step.EMBED),
        (Phase.SUCCEEDED, Step.NOTHING),
        (Phase.SUPERSEDED, Step.NOTHING),
        (Phase.DEAD_LETTERED, Step.NOTHING),
    ],
    ids=str,
)
def test_each_phase_has_its_step(phase: Phase, step: Step) -> None:
    assert next_step(job(phase)) == step


def test_a_job_that_has_no_status_yet_is_embedded() -> None:
    assert next_step(job()) == Step.EMBED


@pytest.mark.parametrize(
    "history", [{"attempts": 1}, {"attempts": 0, "completionTime": MOMENT}, {"attempts": 6, "completionTime": MOMENT}]
)
def test_a_pending_job_with_a_history_begins_a_replay(history: dict[str, Any]) -> None:
    assert next_step(job(Phase.PENDING, **history)) == Step.BEGIN_REPLAY


def test_a_replay_that_has_begun_is_embedded_and_not_begun_again() -> None:
    begun = {"attempts": 0, "replays": 1, "completionTime": None, "history": [{"time": MOMENT, "reason": "Any"}]}
    assert next_step(job(Phase.PENDING, **begun)) == Step.EMBED


def test_a_retrying_job_keeps_its_attempts_and_is_no_replay() -> None:
    assert next_step(job(Phase.RETRYING, attempts=3, nextAttemptTime=MOMENT)) == Step.EMBED


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED, Phase.DEAD_LETTERED], ids=str)
def test_what_is_over_stays_over_whatever_its_history(phase: Phase) -> None:
    assert next_step(job(phase, attempts=3, completionTime=MOMENT, nextAttemptTime=MOMENT)) == Step.NOTHING
