"""docs/kubectl.md shows what the verbs really print, and names every verb, option and exit code."""

import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from embedding_operator.resources.embedding_job import Phase
from hack.repository import ROOT
from kubectl_embeddings import app as command
from kubectl_embeddings import source_verbs
from kubectl_embeddings.layout import Format, Screen
from kubectl_embeddings.pod_tunnel import Answer
from kubectl_embeddings.user_connection import Connection
from tests.support.fake_clock import START, FakeClock
from tests.support.fake_requests import FakeRequests, condition, source_body
from tests.support.jobs import job_body
from tests.support.manifests import Json

PAGE = (ROOT / "docs" / "kubectl.md").read_text()
WIDTH = 80
EXAMPLES = re.findall(r"^    \$ kubectl embeddings (.*)\n((?:    (?!\$).*\n|\n(?=    [^$]))*)", PAGE, re.MULTILINE)
OUTAGE = "the provider has answered 503 since 11:48: the next test text is sent at 12:00:30"


class Clock(FakeClock):
    """Each pause ends at once."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Stand(FakeRequests):
    """The namespace of the page's examples, with an operator that does at once what is requested."""

    async def source(self, name: str) -> Json:
        body = await super().source(name)
        for token in body["metadata"].get("annotations", {}).values():
            self.change(name, {"status": {"lastHandledReconcileAt": token}})
        return await super().source(name)


def dead(business: str, reason: str, minute: int, message: str, *failure: str) -> Json:
    entry = {"time": f"2026-03-01T11:{minute}:00Z"} | dict(zip(("reason", "code"), failure, strict=False))
    body = job_body(
        business,
        Phase.DEAD_LETTERED,
        source="businesses",
        attempts=6 if reason == "RetriesExhausted" else 1,
        reason=reason,
        message=message,
        completionTime=f"2026-03-01T11:{minute}:00Z",
        history=[entry],
    )
    return created(body, "11:30")


def created(body: Json, at: str) -> Json:
    body["metadata"]["creationTimestamp"] = f"2026-03-01T{at}:00Z"
    return body


def waiting_row() -> Json:
    """What the leader says of a row of `photos`."""
    approval = (
        "a changed model or text waits for approval: until then this row gets the vector of the previous configuration"
    )
    return {
        "source": "shops/photos",
        "id": "412",
        "row": {
            "state": "Due",
            "exists": True,
            "blank": False,
            "dueSince": "2026-03-01T11:51:00Z",
            "foundBy": "Edit",
            "embeddedAt": "2026-02-27T08:15:00Z",
            "model": "gemini-embedding-001@768",
        },
        "job": None,
        "why": [
            {"reason": "ProviderUnavailable", "message": OUTAGE},
            {"reason": "ApprovalNeeded", "message": approval},
        ],
        "queue": {"rowsBefore": 96, "atLeast": False, "rowsPerSecond": None, "estimatedSeconds": None},
        "lastOutcomes": [],
    }


def stand() -> Stand:
    well = {
        "summary": "Sweeping",
        "rows": {"freshPercent": "99.1", "due": 3, "oldestDueSince": "2026-03-01T11:57:00Z"},
        "jobs": {"open": 1, "deadLettered": 3},
    }
    idle = {
        "summary": "Suspended",
        "rows": {"freshPercent": "100.0", "due": 0},
        "jobs": {"open": 0, "deadLettered": 0},
    }
    away = {
        "summary": "ProviderUnavailable",
        "rows": {"freshPercent": "41.0", "due": 1180, "oldestDueSince": "2026-03-01T11:48:00Z"},
        "jobs": {"open": 50, "deadLettered": 0},
        "conditions": [
            condition("ProviderReady", "False", "ProviderUnavailable", OUTAGE),
            condition("ReembedRequired", "True", "ApprovalNeeded", "2000 rows would be embedded again"),
        ],
        "pendingFingerprint": "gemini-embedding-001@768#5f0c2a9d",
        "reembed": {"rows": 2000, "estimatedCost": "0.0300"},
    }
    refused = "the write is refused by the constraint vector_is_short (CheckViolation)"
    failed = f"failed 6 times; the last failure: {refused} (RowsRefused)"
    retrying = job_body(
        "8",
        Phase.RETRYING,
        source="businesses",
        attempts=2,
        reason="RowsRefused",
        message=refused,
        nextAttemptTime="2026-03-01T12:00:04Z",
    )
    now_fresh = source_body(
        "businesses", status=well | {"summary": "Fresh", "rows": {"freshPercent": "100.0", "due": 0}}
    )
    now_fresh["status"]["jobs"] = {"open": 0, "deadLettered": 3}
    now_fresh["metadata"]["resourceVersion"] = "101"
    made = Stand(
        sources=[
            source_body("businesses", status=well),
            source_body("archive", status=idle, suspend=True, table="public.archive"),
            source_body("photos", status=away, table="public.photos"),
        ],
        jobs=[
            dead("17", "RetriesExhausted", 55, failed, "RowsRefused", "23514"),
            dead("23", "RetriesExhausted", 52, failed, "RowsRefused", "23514"),
            dead("99", "InputRejected", 40, "the provider refuses what was sent (400)", "InputRejected", "400"),
            created(retrying, "11:59"),
        ],
    )
    made.watches.append([{"type": "MODIFIED", "object": now_fresh}])
    made.leads(**waiting_row())
    add_release(made)
    return made


def add_release(made: Stand) -> None:
    """What is read of the release, by an account that may not read CRDs."""
    where = f"namespaces/{made.namespace}"
    pod = {"metadata": {"name": "operator-1"}, "spec": {"containers": [{"name": "operator"}]}}
    pod["spec"]["containers"][0]["env"] = [{"name": "HTTPS_PROXY", "value": "http://proxy.example"}]  # type: ignore[index]
    made.objects |= {
        "version": {"gitVersion": "v1.34.0"},
        f"apis/apps/v1/{where}/deployments": {"items": [{"metadata": {"name": "embedding-operator"}}]},
        f"api/v1/{where}/pods": {"items": [pod]},
        f"apis/batch/v1/{where}/jobs": {"items": []},
        f"apis/events.k8s.io/v1/{where}/events": {"items": []},
    }
    made.texts[f"api/v1/{where}/pods/operator-1/log"] = "operator ready"
    made.pods["operator-1", 8080, "/metrics"] = Answer(200, b"any_metric 1.0")


def screen(output: Format | None = None) -> Screen:
    return Screen(typer.echo, typer.echo, WIDTH, output)


def on_the_stand(_: Connection, verb: Callable[[Stand], Awaitable[int]]) -> None:
    import asyncio

    raise typer.Exit(asyncio.run(verb(stand())))  # type: ignore[arg-type]


def printed(arguments: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for module in (command, source_verbs):
        monkeypatch.setattr(module, "run_verb", on_the_stand)
        monkeypatch.setattr(module, "screen", screen)
        monkeypatch.setattr(module, "clock", Clock(START))
    return CliRunner().invoke(command.app, shlex.split(arguments)).output


@pytest.mark.parametrize(("arguments", "shown"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_each_example_shows_what_is_printed(
    arguments: str, shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # where an archive is written
    lines = [line.removeprefix("    ") for line in shown.rstrip().splitlines()]
    verb, _, _ = arguments.partition(" | ")
    assert lines == [line.rstrip() for line in printed(verb, monkeypatch).rstrip().splitlines()]
    assert max(len(line) for line in lines if not line.endswith(";")) <= WIDTH  # SQL is as long as it is


def test_every_verb_has_an_example() -> None:
    verbs = {registered.name for registered in command.app.registered_commands}
    shown = {arguments.split()[0] for arguments, _ in EXAMPLES}
    assert shown | {"ui"} == verbs
    assert "\n    kubectl embeddings ui\n" in PAGE  # it prints an address, and a page is no text
