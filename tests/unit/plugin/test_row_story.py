"""`kubectl embeddings explain SOURCE/ID` tells the story of a row from what its leader and its jobs say."""

import json
from typing import Any

import pytest

from embedding_operator.api_errors import RequestRefused
from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.cluster import Json
from kubectl_embeddings.explanation import explain, place
from kubectl_embeddings.failures import FAILED, CommandFailed, NotFound, WrongUse
from kubectl_embeddings.layout import Format
from kubectl_embeddings.leader import NobodyLeads
from kubectl_embeddings.pod_tunnel import Answer, PodSilent
from kubectl_embeddings.row_story import explain_row, state
from tests.support.fake_clock import START
from tests.support.fake_requests import FakeRequests, Printed
from tests.support.jobs import job_body, name_of

LEASE = "apis/coordination.k8s.io/v1/namespaces/shops/leases/embedding-operator"
PODS = "api/v1/namespaces/shops/pods"
ROWS = ("operator-1", 8081, "/v1/rows")
FRESH = {
    "state": "UpToDate",
    "exists": True,
    "blank": False,
    "dueSince": None,
    "foundBy": None,
    "embeddedAt": "2026-03-01T11:00:00Z",
    "model": "any@8",
}
DUE = FRESH | {"state": "Due", "dueSince": "2026-03-01T11:50:00Z", "foundBy": "Edit"}


def answer(row: Json | None = None, **differences: Any) -> Json:
    whole: Json = {
        "source": "shops/shops",
        "id": "1",
        "row": row,
        "job": None,
        "why": [],
        "queue": None,
        "lastOutcomes": [],
    }
    return whole | differences


def because(reason: str) -> list[Json]:
    return [{"reason": reason, "message": "it is so"}]


async def told(
    *jobs: Json, output: Format | None = None, name: str = "shops/1", narrow: bool = True, **given: Any
) -> Printed:
    requests, printed = FakeRequests(jobs=jobs), Printed(width=80, output=output)
    requests.leads(**answer(**given))
    await explain_row(requests, name, printed.screen, operator_namespace=None, now=START)
    assert output or not narrow or max(map(len, printed.text.splitlines())) <= 80
    return printed


async def test_a_fresh_row_has_its_last_vector_and_nothing_to_do() -> None:
    assert (await told(row=FRESH)).text.splitlines() == [
        "row '1' of shops: fresh: it has the vector of its present text",
        "  2026-03-01 11:00:00Z its vector was written (any@8)",
        "  Nothing is to be done",
    ]


async def test_a_due_row_has_its_reason_its_place_and_the_command_that_helps() -> None:
    queue = {"rowsBefore": 12, "atLeast": False, "rowsPerSecond": 3.25, "estimatedSeconds": 4}
    assert (await told(row=DUE, why=because("Suspended"), queue=queue)).text.splitlines() == [
        "row '1' of shops: due for 10m",
        "  2026-03-01 11:00:00Z its vector was written (any@8)",
        "  2026-03-01 11:50:00Z edited, so it became due",
        "  Suspended: it is so",
        "    kubectl embeddings resume shops",
        "  12 due rows come before it; its turn is in about 4s, at 3.25 a second",
    ]


@pytest.mark.parametrize(
    ("reason", "command"),
    [
        ("ApprovalNeeded", "approve shops"),
        ("NotAudited", "reconcile shops --wait"),
        ("ProviderUnavailable", "reconcile shops"),
        ("DeadLetterLimit", "dead-letters --source shops"),
        ("TooManyJobs", "jobs --source shops --id 1"),
    ],
)
async def test_a_reason_that_somebody_may_act_on_has_a_command(reason: str, command: str) -> None:
    assert f"    kubectl embeddings {command}" in (await told(row=DUE, why=because(reason))).lines[0].splitlines()


@pytest.mark.parametrize(
    ("reason", "section"),
    [
        ("TableMissing", "sourcestalled"),
        ("Forbidden", "sourcestalled"),
        ("OwnedElsewhere", "sourcestalled"),
        ("ApiKeyInvalid", "providerdown"),
        ("DatabaseUnavailable", "databasedown"),
        ("DayLimitReached", "daylimitnear"),
    ],
)
async def test_a_reason_that_only_its_message_helps_with_has_the_section_of_the_runbook(
    reason: str, section: str
) -> None:
    lines = (await told(row=DUE, why=because(reason), narrow=False)).text.splitlines()
    address = lines[lines.index(f"  {reason}: it is so") + 1]
    assert address.startswith("    https://")
    assert address.endswith(f"/docs/runbook.md#embeddingoperator{section}")


@pytest.mark.parametrize("reason", ["NextSweep", "WindowFull", "RowLocked", "JobRefused", "TextFails"])
async def test_a_reason_that_passes_by_itself_has_none(reason: str) -> None:
    assert "kubectl embeddings" not in (await told(row=DUE, why=because(reason))).text


async def test_an_id_is_quoted_in_a_command() -> None:
    shown = await told(row=DUE, why=because("TooManyJobs"), id="a b")
    assert "jobs --source shops --id 'a b'" in shown.text


async def test_the_story_of_the_jobs_and_of_the_row_is_one() -> None:
    body = job_body(
        "1",
        Phase.RETRYING,
        attempts=1,
        message="it is refused",
        nextAttemptTime="2026-03-01T12:00:04Z",
        history=[{"time": "2026-03-01T11:58:00Z", "reason": "RowsRefused", "code": "23514"}],
    )
    body["metadata"]["creationTimestamp"] = "2026-03-01T11:51:00Z"
    name = name_of("1")
    outcomes = [
        {"time": "2026-03-01T10:00:00Z", "phase": "Superseded", "reason": "TextChanged", "message": ""},
        {"time": "2026-03-01T11:58:00Z", "phase": "Retrying", "reason": "RowsRefused", "message": "again"},
    ]
    shown = await told(body, row=DUE, job={"name": name, "phase": "Retrying"}, lastOutcomes=outcomes)
    assert [line.partition("Z ")[2] or line for line in shown.text.splitlines()] == [
        "row '1' of shops: due for 10m",
        "Superseded (TextChanged)",
        "its vector was written (any@8)",
        "edited, so it became due",
        f"{name}: created, because the row was due",
        f"{name}: failed: RowsRefused (23514)",
        "  Attempt 2 follows in 4s (it is refused); to have it now:",
        f"    kubectl embeddings replay {name}",
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (FRESH | {"blank": True}, "fresh: its text is empty, so it has no vector"),
        (FRESH | {"state": "NotMarked"}, "not fresh, and not due yet"),
        (FRESH | {"state": "NoSuchRow"}, "it does not exist any more"),
        (DUE | {"exists": False}, "due for 10m, and deleted meanwhile"),
        (None, "not known, because it cannot be read now"),
    ],
)
def test_the_state_is_said_in_the_first_line(row: Json | None, expected: str) -> None:
    assert state(answer(row), START) == expected


@pytest.mark.parametrize(
    ("queue", "of_job", "expected"),
    [
        ((0, False, 2.0, 1), False, "no due rows come before it; its turn is in about 1s, at 2 a second"),
        ((1, False, 0.5, 4), True, "1 job comes before it; its turn is in about 4s, at 0.5 a second"),
        (
            (100_000, True, 50.0, 2_001),
            False,
            "at least 100000 due rows come before it; its turn is in at least 33m, at 50",
        ),
        (
            (3, False, None, None),
            False,
            "3 due rows come before it; how long that takes is not known, because none was",
        ),
    ],
)
def test_the_place_is_said_in_a_sentence(queue: tuple[Any, ...], of_job: bool, expected: str) -> None:
    names = ("rowsBefore", "atLeast", "rowsPerSecond", "estimatedSeconds")
    (sentence,) = place(dict(zip(names, queue, strict=True)), because("WindowFull"), of_job=of_job)
    assert sentence.startswith(expected)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (0, "no due rows come before it"),
        (1, "1 due row comes before it, and waits too"),
        (96, "96 due rows come before it, and wait too"),
    ],
)
def test_while_the_source_is_stopped_the_others_wait_too(before: int, expected: str) -> None:
    queue = {"rowsBefore": before, "atLeast": False, "rowsPerSecond": None, "estimatedSeconds": None}
    assert place(queue, because("Suspended"), of_job=False) == [expected]


async def test_for_scripts_the_answer_is_printed_as_it_is() -> None:
    printed = await told(row=DUE, output=Format.JSON)
    assert json.loads(printed.text) == answer(DUE)


async def test_a_row_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(NotFound, match="has no row with the id 1"):
        await told(row=FRESH | {"state": "NoSuchRow"})


@pytest.mark.parametrize("name", ["shops/", "/1"])
async def test_a_name_without_source_or_id_is_wrong_use(name: str) -> None:
    with pytest.raises(WrongUse, match="write SOURCE/ID"):
        await told(row=FRESH, name=name)


async def test_source_and_id_are_asked_for_as_they_are() -> None:
    requests = FakeRequests()
    requests.leads(**answer(FRESH))
    await explain_row(requests, "shops/a b/ü&c", Printed().screen, operator_namespace=None, now=START)
    assert requests.asked == ["/v1/rows?source=shops%2Fshops&id=a+b%2F%C3%BC%26c"]


async def failure(requests: FakeRequests, namespace: str | None = None) -> CommandFailed:
    with pytest.raises(CommandFailed) as failed:
        await explain_row(requests, "shops/1", Printed().screen, operator_namespace=namespace, now=START)
    return failed.value


def led(**pods: Any) -> FakeRequests:
    """With a leader whose port answers this."""
    requests = FakeRequests()
    requests.leads()
    requests.pods[ROWS] = pods["answers"]
    return requests


@pytest.mark.parametrize(
    ("answers", "kind", "said"),
    [
        (RequestRefused("HTTP 403"), CommandFailed, "get and create on pods/portforward in namespace shops"),
        (
            PodSilent("connection refused"),
            CommandFailed,
            r"port 8081 of the pod operator-1 gives no answer \(connection",
        ),
        (Answer(404, b'{"error": "no source is known"}'), NotFound, "operator-1: no source is known"),
        (Answer(200, b"[]"), CommandFailed, "no object of JSON: its version may be another one"),
        (Answer(404, b"404: Not Found"), CommandFailed, "no object of JSON: its version may be another one"),
        (Answer(503, b'{"error": "ask pod-2", "leader": "pod-2"}'), CommandFailed, "operator-1: ask pod-2"),
        (Answer(500, b"oops"), CommandFailed, "has answered 500"),
    ],
)
async def test_each_reason_why_the_leader_gives_no_answer_has_a_sentence(
    answers: object, kind: type[CommandFailed], said: str
) -> None:
    failed = await failure(led(answers=answers))
    assert type(failed) is kind
    with pytest.raises(kind, match=said):
        raise failed


async def test_a_namespace_without_an_operator_is_not_found() -> None:
    requests = FakeRequests()
    requests.objects[PODS] = {"items": []}
    failed = await failure(requests)
    assert isinstance(failed, NotFound)
    assert "--operator-namespace" in str(failed)


async def test_an_operator_that_has_no_pod_is_told_from_a_namespace_that_never_had_one() -> None:
    requests = FakeRequests()
    requests.objects |= {PODS: {"items": []}, LEASE: {"spec": {"holderIdentity": ""}}}
    failed = await failure(requests)
    assert (type(failed), failed.code) == (NobodyLeads, FAILED)
    assert str(failed).startswith(
        "no pod of the operator runs in namespace shops: see why with `kubectl get pods,deployments -n shops"
    )
    assert "#embeddingoperatornoleader" in str(failed)
    assert "--operator-namespace" not in str(failed)


@pytest.mark.parametrize("lease", [None, {"spec": {"holderIdentity": ""}}])
async def test_pods_of_which_none_leads_are_said(lease: Json | None) -> None:
    requests = FakeRequests()
    requests.objects[PODS] = {"items": [{}]}
    if lease:
        requests.objects[LEASE] = lease
    assert "no pod of the operator leads" in str(await failure(requests))


async def test_a_leader_that_is_no_pod_is_said() -> None:
    requests = FakeRequests()
    requests.objects[LEASE] = {"spec": {"holderIdentity": "my-machine"}}
    assert "the leader my-machine is no pod of namespace shops" in str(await failure(requests))


async def test_the_operator_may_be_in_another_namespace() -> None:
    requests = FakeRequests()
    requests.objects[PODS.replace("shops", "elsewhere")] = {"items": []}
    assert "namespace elsewhere" in str(await failure(requests, "elsewhere"))


async def test_the_port_is_the_one_that_the_pod_names() -> None:
    requests = FakeRequests()
    requests.leads()
    port = {"name": "local", "containerPort": 9_000}
    requests.objects[f"{PODS}/operator-1"] = {"spec": {"containers": [{"ports": [port]}, {}]}}
    requests.pods["operator-1", 9_000, "/v1/rows"] = Answer(200, json.dumps(answer(FRESH)).encode())
    printed = Printed()
    await explain_row(requests, "shops/1", printed.screen, operator_namespace=None, now=START)
    assert "fresh" in printed.text


async def test_without_the_operator_the_story_of_the_jobs_is_still_told() -> None:
    requests, printed = FakeRequests(jobs=[job_body("1", Phase.PENDING)]), Printed()
    requests.objects[PODS] = {"items": [{}]}
    with pytest.raises(CommandFailed):
        await explain_row(requests, "shops/1", printed.screen, operator_namespace=None, now=START)
    assert "created, because the row was due" in printed.text


async def test_a_pending_job_has_its_place_in_the_same_words() -> None:
    requests, printed = FakeRequests(jobs=[job_body("1", Phase.PENDING)]), Printed()
    requests.leads(**answer(queue={"rowsBefore": 2, "atLeast": False, "rowsPerSecond": 1.0, "estimatedSeconds": 3}))
    await explain(requests, name_of("1"), printed.screen, now=START)
    assert "2 jobs come before it; its turn is in about 3s, at 1 a second" in printed.text


async def test_a_pending_job_without_an_operator_has_its_story_and_a_note() -> None:
    requests, printed = FakeRequests(jobs=[job_body("1", Phase.PENDING)]), Printed()
    requests.objects[PODS] = {"items": [{}]}
    await explain(requests, name_of("1"), printed.screen, now=START)
    assert "created, because the row was due" in printed.text
    assert "It waits, and no pod of the operator leads in namespace shops" in printed.text
    assert "about to be worked on" not in printed.text


async def test_a_job_is_printed_for_scripts_as_kubectl_gets_it() -> None:
    requests, printed = FakeRequests(jobs=[job_body("1", Phase.PENDING)]), Printed(output=Format.JSON)
    await explain(requests, name_of("1"), printed.screen, now=START)
    assert json.loads(printed.text)["items"][0]["metadata"]["name"] == name_of("1")
