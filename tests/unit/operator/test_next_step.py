"""What is to be done with a job, from its state alone."""

from typing import Any

import pytest

from embedding_operator.lifecycle.next_step import BeginReplay, Embed, Nothing, Step, next_step
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase, parsed_job
from tests.support.manifests import a_job

MOMENT = "2026-03-01T12:00:00Z"


def job(phase: Phase | None = None, **status: Any) -> EmbeddingJob:
    said = status | ({"phase": phase} if phase else {})
    return parsed_job(a_job("any") | ({"status": said} if said else {}))


@pytest.mark.parametrize(
    ("phase", "step"),
    [
        (Phase.PENDING, Embed()),
        (Phase.RETRYING, Embed()),
        (Phase.SUCCEEDED, Nothing()),
        (Phase.SUPERSEDED, Nothing()),
        (Phase.DEAD_LETTERED, Nothing()),
    ],
    ids=str,
)
def test_each_phase_has_its_step(phase: Phase, step: Step) -> None:
    assert next_step(job(phase)) == step


def test_a_job_that_has_no_status_yet_is_embedded() -> None:
    assert next_step(job()) == Embed()


@pytest.mark.parametrize(
    "story", [{"attempts": 1}, {"attempts": 0, "completionTime": MOMENT}, {"attempts": 6, "completionTime": MOMENT}]
)
def test_a_pending_job_with_a_story_begins_a_replay(story: dict[str, Any]) -> None:
    assert next_step(job(Phase.PENDING, **story)) == BeginReplay()


def test_a_replay_that_has_begun_is_embedded_and_not_begun_again() -> None:
    begun = {"attempts": 0, "replays": 1, "completionTime": None, "history": [{"time": MOMENT, "reason": "Any"}]}
    assert next_step(job(Phase.PENDING, **begun)) == Embed()


def test_a_retrying_job_keeps_its_attempts_and_is_no_replay() -> None:
    assert next_step(job(Phase.RETRYING, attempts=3, nextAttemptTime=MOMENT)) == Embed()


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED, Phase.DEAD_LETTERED], ids=str)
def test_what_is_over_stays_over_whatever_its_story(phase: Phase) -> None:
    assert next_step(job(phase, attempts=3, completionTime=MOMENT, nextAttemptTime=MOMENT)) == Nothing()
