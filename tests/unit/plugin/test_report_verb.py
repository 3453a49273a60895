"""`kubectl embeddings report` writes what may be read, without secrets, and says what is missing."""

import asyncio
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused
from embedding_operator.resources import GROUP
from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.failures import DONE, WrongUse
from kubectl_embeddings.pod_tunnel import Answer, PodSilent
from kubectl_embeddings.report import MOST_JOBS, Options, write_report
from tests.support.fake_clock import START
from tests.support.fake_requests import FakeRequests, Printed, source_body
from tests.support.jobs import job_body
from tests.support.manifests import Json

PLANTED = ("MARKER-PASSWORD", "AIzaMARKERMARKERMARKER", "sk-MARKERMARKERMARKER", "hunter2-of-a-variable")
URL = f"postgresql://u:{PLANTED[0]}@h/d"
EVERY_FORM = f"{URL} {PLANTED[1]} {PLANTED[2]} Bearer {PLANTED[0]} {PLANTED[3]}"
NAMESPACE = "namespaces/shops"


def with_secrets(body: Json) -> Json:
    """With secrets in its metadata and in a message."""
    last = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"note": EVERY_FORM})}
    body["metadata"] = body["metadata"] | {"annotations": last | {"note": EVERY_FORM}, "managedFields": [{}]}
    return body | {"status": body.get("status", {}) | {"message": EVERY_FORM}}


def container(name: str) -> Json:
    return {
        "name": name,
        "image": f"registry/{name}:1",
        "args": ["run", PLANTED[3]],
        "env": [{"name": "LOGIN", "value": PLANTED[3]}, {"name": "EMBEDDING_LOG_LEVEL", "value": "info"}],
        "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "X-Key", "value": PLANTED[3]}]}},
    }


def pod(name: str) -> Json:
    ended = {"terminated": {"message": EVERY_FORM}}
    status = {"containerStatuses": [{"name": "operator", "restartCount": 1, "lastState": ended}]}
    spec = {"containers": [container("operator"), container("sidecar")], "initContainers": [container("init")]}
    return {"metadata": {"name": name}, "spec": spec, "status": status}


def event(number: int, regarding: Json) -> Json:
    return {
        "metadata": {"name": f"event-{number}"},
        "regarding": regarding,
        "note": EVERY_FORM,
        "eventTime": f"{number:03}",
    }


def stand() -> FakeRequests:
    """A namespace in which every object, log and page holds secrets."""
    sources = [with_secrets(source_body(text=f"name || '{URL}'"))]
    requests = FakeRequests(sources=sources, jobs=[with_secrets(job_body("1", Phase.DEAD_LETTERED, history=[]))])
    requests.leads()
    meta = {"name": "release-embedding-operator", "labels": {"app.kubernetes.io/instance": "release"}}
    meta["annotations"] = {"meta.helm.sh/release-name": "release"}
    deployment = with_secrets({"metadata": meta, "spec": {"template": {"spec": pod("")["spec"]}}})
    deployment["metadata"]["annotations"] |= meta["annotations"]
    events = [event(1, {"kind": "EmbeddingSource", "name": "shops"}), event(2, {"kind": "Pod", "name": "operator-1"})]
    requests.objects |= {
        "version": {"gitVersion": "v1.34.0"},
        f"apis/apps/v1/{NAMESPACE}/deployments": {"items": [deployment]},
        f"api/v1/{NAMESPACE}/pods": {"items": [with_secrets(pod("operator-1"))]},
        f"apis/batch/v1/{NAMESPACE}/jobs": {"items": [with_secrets({"metadata": {"name": "workers"}})]},
        f"apis/events.k8s.io/v1/{NAMESPACE}/events": {"items": [*events, event(3, {"kind": "Pod", "name": "others"})]},
    }
    for resource in ("embeddingsources", "embeddingjobs"):
        served = [{"name": "v1alpha1", "served": True, "storage": True, "schema": {"large": "one"}}]
        crd = {"metadata": {"name": resource}, "spec": {"versions": served}, "status": {"storedVersions": ["v1alpha1"]}}
        requests.objects[f"apis/apiextensions.k8s.io/v1/customresourcedefinitions/{resource}.{GROUP}"] = crd
    requests.texts[f"api/v1/{NAMESPACE}/pods/operator-1/log"] = f'{{"event": "started", "note": "{EVERY_FORM}"}}\n'
    requests.pods["operator-1", 8080, "/metrics"] = Answer(200, f'any{{label="{EVERY_FORM}"}} 1.0\n'.encode())
    return requests


def reported(requests: FakeRequests, path: Path) -> tuple[dict[str, str], Printed]:
    """The files of the archive by name."""
    printed = Printed()
    assert asyncio.run(write_report(requests, Options(path), printed.screen, now=START)) == DONE
    with tarfile.open(path) as archive:
        files = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file is not None}, printed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.tar.gz"


def test_everything_that_may_be_read_is_in_it(path: Path) -> None:
    files, printed = reported(stand(), path)
    assert sorted(files) == [
        "crds/embeddingjobs.json",
        "crds/embeddingsources.json",
        "deployments.json",
        "events.json",
        "jobs.json",
        "lease.json",
        "logs/operator-1-operator-previous.log",
        "logs/operator-1-operator.log",
        "manifest.json",
        "metrics.txt",
        "pods.json",
        "release.json",
        "sources.json",
        "versions.json",
        "workers.json",
    ]
    assert printed.lines == [str(path)]
    assert "reading logs/operator-1-operator.log" in printed.notes


def test_no_planted_secret_is_in_it_wherever_it_was(path: Path) -> None:
    files, _ = reported(stand(), path)
    assert [(name, secret) for name, text in files.items() for secret in PLANTED if secret in text] == []
    assert json.loads(files["manifest.json"])["removedValues"] > 20


def test_what_helps_is_in_it(path: Path) -> None:
    files, _ = reported(stand(), path)
    assert json.loads(files["versions.json"])["server"] == {"gitVersion": "v1.34.0"}
    assert json.loads(files["release.json"])[0]["helmRelease"] == "release"
    assert json.loads(files["jobs.json"])[0]["status"]["phase"] == "DeadLettered"
    (crd,) = json.loads(files["crds/embeddingjobs.json"])["versions"]
    assert crd == {"name": "v1alpha1", "served": True, "storage": True}
    assert {"name": "EMBEDDING_LOG_LEVEL", "value": "info"} in json.loads(files["pods.json"])[0]["spec"]["containers"][
        0
    ]["env"]


def test_events_of_others_are_left_out(path: Path) -> None:
    files, _ = reported(stand(), path)
    assert [one["metadata"]["name"] for one in json.loads(files["events.json"])] == ["event-2", "event-1"]


def test_the_manifest_lists_what_is_in_it(path: Path) -> None:
    files, _ = reported(stand(), path)
    manifest = json.loads(files.pop("manifest.json"))
    assert {one["file"]: one["bytes"] for one in manifest["files"]} == {
        name: len(text.encode()) for name, text in files.items()
    }
    assert (manifest["namespace"], manifest["operatorNamespace"], manifest["missing"]) == ("shops", "shops", [])


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (RequestRefused(f"deployments is forbidden; {URL}"), "deployments is forbidden; [redacted]"),
        (ApiServerUnreachable("the API server cannot be reached"), "the API server cannot be reached"),
        (KeyError("items"), "an unexpected error, KeyError"),
    ],
)
def test_a_part_that_cannot_be_read_is_named_with_the_reason(path: Path, failure: Exception, why: str) -> None:
    requests = stand()
    requests.objects[f"apis/apps/v1/{NAMESPACE}/deployments"] = failure
    files, printed = reported(requests, path)
    missing = {one["part"]: one["why"] for one in json.loads(files["manifest.json"])["missing"]}
    assert missing["deployments.json"] == why
    assert set(missing) == {"deployments.json", "release.json"}
    assert "parts that could not be read: 2" in printed.notes[-2]


def test_without_a_right_on_pods_and_ports_the_rest_is_written(path: Path) -> None:
    requests = stand()
    for known in list(requests.objects):
        if "/pods" in known:
            requests.objects[known] = RequestRefused("pods is forbidden")
    requests.pods = {}
    files, _ = reported(requests, path)
    assert {"sources.json", "jobs.json", "events.json", "lease.json"} <= set(files)
    assert {one["part"] for one in json.loads(files["manifest.json"])["missing"]} == {"pods.json", "metrics.txt"}


@pytest.mark.parametrize("answer", [PodSilent("connection refused"), Answer(503, b"oops")])
def test_metrics_that_give_no_answer_are_missing(path: Path, answer: Any) -> None:
    requests = stand()
    requests.pods["operator-1", 8080, "/metrics"] = answer
    files, _ = reported(requests, path)
    assert "metrics.txt" not in files


def test_an_api_server_that_is_away_is_the_only_failure_of_the_whole(path: Path) -> None:
    requests = stand()
    requests.objects["version"] = ApiServerUnreachable("away")
    with pytest.raises(ApiServerUnreachable):
        reported(requests, path)
    assert not path.exists()


def test_only_the_newest_jobs_are_in_it(path: Path) -> None:
    jobs = [job_body(str(number), Phase.SUCCEEDED) for number in range(MOST_JOBS + 5)]
    for number, body in enumerate(jobs):
        body["metadata"]["creationTimestamp"] = f"2026-03-01T{number // 60:02}:{number % 60:02}:00Z"
    requests = stand()
    requests._jobs = {body["metadata"]["name"]: body for body in jobs}
    files, _ = reported(requests, path)
    found = json.loads(files["jobs.json"])
    assert (len(found), found[0]["spec"]["businessId"]) == (MOST_JOBS, str(MOST_JOBS + 4))


def test_only_its_owner_may_read_it(path: Path) -> None:
    reported(stand(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_exists_is_not_overwritten(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(WrongUse, match="exists: name another file with -o"):
        reported(stand(), path)
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="is in no folder"):
        reported(stand(), tmp_path / "missing" / "report.tar.gz")


def test_without_a_name_it_is_named_by_namespace_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asyncio.run(write_report(stand(), Options(), Printed().screen, now=START))
    assert [file.name for file in tmp_path.iterdir()] == [
        f"embedding-operator-report-shops-{START:%Y%m%dT%H%M%SZ}.tar.gz"
    ]


def test_of_an_operator_in_another_namespace_the_events_of_both_are_read(path: Path) -> None:
    requests = stand()
    requests.objects |= {
        "api/v1/namespaces/ops/pods": {"items": [pod("operator-1")]},
        "apis/events.k8s.io/v1/namespaces/ops/events": {
            "items": [
                event(4, {"kind": "Pod", "name": "operator-1"}),
                event(5, {"kind": "EmbeddingSource", "name": "x"}),
            ]
        },
    }
    assert asyncio.run(write_report(requests, Options(path, "ops"), Printed().screen, now=START)) == DONE
    assert names_in(path, "events.json") == ["event-1"]
    assert names_in(path, "operator-events.json") == ["event-4"]


def names_in(path: Path, part: str) -> list[str]:
    with tarfile.open(path) as archive:
        (member,) = [one for one in archive.getmembers() if one.name.endswith(f"/{part}")]
        file = archive.extractfile(member)
        assert file is not None
        return [one["metadata"]["name"] for one in json.loads(file.read())]
