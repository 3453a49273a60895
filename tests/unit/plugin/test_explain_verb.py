"""`kubectl embeddings explain` tells what has happened to a job in the order of time, and what somebody can do."""

from typing import Any

import pytest

from embedding_operator.api_errors import RequestRefused
from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.cluster import Json
from kubectl_embeddings.dead_letter_groups import REMEDIES
from kubectl_embeddings.explanation import advice, explain, story
from kubectl_embeddings.failures import NotFound
from kubectl_embeddings.status import Attention
from kubectl_embeddings.views import Job, job_of
from tests.support.fake_clock import START
from tests.support.fake_requests import FakeRequests, Printed, condition, source_body
from tests.support.jobs import job_body, name_of

AWAY = condition("ProviderReady", "False", "ProviderUnavailable", "it is away")
REPLAY = f"kubectl embeddings replay {name_of('1')}"


def body(phase: Phase, **status: Any) -> Json:
    made = job_body("1", phase, **status)
    made["metadata"]["creationTimestamp"] = "2026-03-01T11:30:00Z"
    return made


def job(phase: Phase, **status: Any) -> Job:
    return job_of(body(phase, **status))


def failure(minute: int, reason: str) -> Json:
    return {"time": f"2026-03-01T11:{minute}:00Z", "reason": reason}


def test_the_story_is_told_in_the_order_of_time() -> None:
    told = story(
        job(
            Phase.DEAD_LETTERED,
            history=[failure(41, "ProviderUnavailable"), failure(45, "RowsRefused")],
            completionTime="2026-03-01T11:45:00Z",
            message="failed 2 times",
            replays=1,
        )
    )
    assert [line.removeprefix("2026-03-01 ") for line in told] == [
        "11:30:00Z  created, because the row was due",
        "11:41:00Z  failed: ProviderUnavailable",
        "11:45:00Z  failed: RowsRefused",
        "11:45:00Z  DeadLettered: failed 2 times",
        "replayed once, so its attempts began again at 0",
    ]


def test_a_moment_that_cannot_be_read_does_not_hide_the_story() -> None:
    told = story(job(Phase.RETRYING, history=[{"time": "never", "reason": "RowsRefused"}]))
    assert told[0] == "at an unknown time  failed: RowsRefused"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            job(Phase.DEAD_LETTERED, reason="TextTooLong"),
            Attention(f"To do: {REMEDIES['TextTooLong']}", REPLAY),
        ),
        (
            job(Phase.RETRYING, attempts=2, message="it is locked", nextAttemptTime="2026-03-01T12:00:15Z"),
            Attention("Attempt 3 follows in 15s (it is locked); to have it now:", REPLAY),
        ),
        (job(Phase.PENDING, message="the provider is away"), Attention("the provider is away")),
        (job(Phase.PENDING), Attention("It is about to be worked on: nothing is to be done")),
        (job(Phase.SUCCEEDED), Attention("Its phase is final: nothing is to be done")),
    ],
)
def test_the_advice_depends_on_the_phase(found: Job, expected: Attention) -> None:
    assert advice(found, START) == expected


async def explained(phase: Phase, *sources: Json) -> str:
    printed = Printed(width=80)
    await explain(FakeRequests(sources=sources, jobs=[body(phase)]), name_of("1"), printed.screen, now=START)
    assert max(map(len, printed.text.splitlines())) <= 80
    return printed.text


async def test_what_stops_the_source_of_an_open_job_is_said_too() -> None:
    away = source_body("shops", status={"conditions": [AWAY]})
    assert "shops: ProviderUnavailable: it is away" in await explained(Phase.PENDING, away)
    assert "away" not in await explained(Phase.SUCCEEDED, away)


async def test_a_source_that_was_deleted_is_said() -> None:
    assert "Its source shops does not exist any more" in await explained(Phase.PENDING)


async def test_a_user_who_may_not_read_sources_still_gets_the_story() -> None:
    class WithoutSources(FakeRequests):
        async def source(self, name: str) -> Json:
            raise RequestRefused(f"cannot get {name}")

    printed = Printed()
    await explain(WithoutSources(jobs=[body(Phase.PENDING)]), name_of("1"), printed.screen, now=START)
    assert "created, because the row was due" in printed.text


async def test_a_job_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(NotFound):
        await explain(FakeRequests(), "shops-9", Printed().screen, now=START)


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RETRYING])
async def test_an_open_job_waits_while_no_operator_leads(phase: Phase) -> None:
    requests, printed = FakeRequests(jobs=[body(phase)], sources=[source_body("shops")]), Printed()
    lease = {"holderIdentity": "operator-1", "renewTime": "2026-03-01T11:40:00Z", "leaseDurationSeconds": 15}
    requests.objects["apis/coordination.k8s.io/v1/namespaces/shops/leases/embedding-operator"] = {"spec": lease}
    await explain(requests, name_of("1"), printed.screen, now=START)
    assert printed.text.splitlines()[-2:] == [
        "  no operator has led since 2026-03-01 11:40:00Z: it waits until one does",
        "    kubectl get pods,deployments -n shops -l app.kubernetes.io/name=embedding-operator",
    ]
    assert "about to be worked on" not in printed.text
    assert "its turn" not in printed.text


async def test_a_pending_job_of_an_operator_that_cannot_be_asked_is_not_said_to_begin_soon() -> None:
    class WithoutLeases(FakeRequests):
        async def read(self, path: str, **params: str) -> Json:
            raise RequestRefused(f"cannot get {path}")

    printed = Printed()
    requests = WithoutLeases(jobs=[body(Phase.PENDING)], sources=[source_body("shops")])
    await explain(requests, name_of("1"), printed.screen, now=START)
    assert printed.text.endswith("\n  It waits to be worked on")
    assert printed.notes[0].startswith("the job's place is not known: cannot get")
