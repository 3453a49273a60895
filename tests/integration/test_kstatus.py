"""The resources in tools that wait by kstatus, such as Helm 4 and Flux: tested with the library itself, and with Helm 4."""

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.lifecycle.job_status import replay_begun, settled, superseded
from embedding_operator.resources.embedding_job import EmbeddingJob
from embedding_operator.resources.embedding_source import RetrySpec
from embedding_worker.outcome import OutcomeKind, RowOutcome
from hack.installation.helm import Helm
from hack.installation.kubectl import Kubectl
from hack.processes.environment import program_environment
from tests.support.manifests import Json, a_job, a_source, example_source, merged
from tests.support.source_states import NEW, NOW, REFUSED, STATES, SWEEPING, State, every_state, shown

FIRST = 1  # the generation of a new object


KStatus = Callable[[list[Json]], list[dict[str, str]]]


@pytest.fixture
def kstatus(kstatus_program: Path) -> KStatus:
    """The library's result for each object, in the order of the objects."""

    def results_of(objects: list[Json]) -> list[dict[str, str]]:
        done = subprocess.run(
            [kstatus_program],
            env=program_environment(),
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return results_of


@pytest.fixture
def name() -> str:
    return f"n{secrets.token_hex(4)}"


def apply(kubectl: Kubectl, document: Json) -> None:
    kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(document))


def patch_status(kubectl: Kubectl, name: str, status: Json) -> None:
    patch = json.dumps({"status": status})
    kubectl.run("patch", "embeddingsource", name, "--subresource=status", "--type=merge", "-p", patch)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_kstatus_shows_the_intended_status_of_each_state(kstatus: KStatus, state: State) -> None:
    (result,) = kstatus([state.source()])
    assert result["status"] == state.kstatus


def test_every_combination_of_facts_has_the_intended_status(kstatus: KStatus) -> None:
    states = list(every_state())
    results = [answer["status"] for answer in kstatus([state.source() for state in states])]
    wrong = [(state.name, answer) for state, answer in zip(states, results, strict=True) if answer != state.kstatus]
    assert wrong == []
    assert {"InProgress", "Failed", "Current"} == set(results)


def test_the_message_of_a_failure_is_the_sources_own(kstatus: KStatus) -> None:
    (result,) = kstatus([state.source() for state in STATES if state.name == "refused"])
    assert result["message"] == REFUSED[1]


def test_a_source_that_was_not_processed_yet_is_in_progress(kstatus: KStatus, kubectl: Kubectl, name: str) -> None:
    apply(kubectl, a_source(name))
    found = kubectl.get("embeddingsource", name)
    assert found["status"] == {"observedGeneration": -1}
    (result,) = kstatus([found])
    assert result["status"] == "InProgress"
    assert result["message"] == "EmbeddingSource generation is 1, but latest observed generation is -1"


def test_a_manifest_cannot_set_a_status(kubectl: Kubectl, name: str) -> None:
    """A backup contains a status, by which the restored source would look ready."""
    apply(kubectl, merged(a_source(name), {"status": {"observedGeneration": 1}}))
    assert kubectl.get("embeddingsource", name)["status"] == {"observedGeneration": -1}


def test_the_operators_patch_replaces_the_default(kstatus: KStatus, kubectl: Kubectl, name: str) -> None:
    apply(kubectl, a_source(name))
    patch_status(kubectl, name, shown(replace(SWEEPING, generation=FIRST)))
    (result,) = kstatus([kubectl.get("embeddingsource", name)])
    assert result["status"] == "Current"


def test_an_edit_that_the_operator_has_not_processed_is_in_progress(
    kstatus: KStatus, kubectl: Kubectl, name: str
) -> None:
    apply(kubectl, a_source(name))
    patch_status(kubectl, name, shown(replace(SWEEPING, generation=FIRST)))
    apply(kubectl, a_source(name, limits={"textsPerDay": 5}))
    (result,) = kstatus([kubectl.get("embeddingsource", name)])
    assert result["status"] == "InProgress"


def test_columns_of_a_source_that_was_not_processed_yet_are_empty(kubectl: Kubectl, name: str) -> None:
    apply(kubectl, a_source(name))
    header, row = kubectl.run("get", "esrc", name).splitlines()
    shown_columns = {title: row[header.index(title) :].split("  ")[0].strip() for title in ("FRESH %", "DUE", "READY")}
    assert shown_columns == {"FRESH %": "", "DUE": "", "READY": ""}


def job(**status: Any) -> EmbeddingJob:
    return EmbeddingJob.model_validate(merged(a_job("any"), {"status": {"phase": "Pending", "attempts": 0} | status}))


def status_after(kind: OutcomeKind, *, attempts: int = 0) -> Json:
    outcome = RowOutcome(kind, "Any", "any", code="")
    return settled(
        outcome, job(attempts=attempts), policy=RetrySpec(), started=NOW, now=NOW + timedelta(seconds=1), jitter=0
    ).status


@pytest.mark.parametrize(
    ("phase", "status"),
    [
        ("Pending", {"phase": "Pending", "attempts": 0}),
        ("Retrying", status_after(OutcomeKind.FAILED)),
        ("Succeeded", status_after(OutcomeKind.EMBEDDED)),
        ("DeadLettered", status_after(OutcomeKind.FAILED, attempts=5)),
        ("DeadLettered", status_after(OutcomeKind.INPUT_REJECTED)),
        ("Superseded", superseded(row_gone=False, now=NOW)),
        ("Pending", replay_begun(job(), NOW).status),
    ],
)
def test_a_tool_that_waits_for_all_objects_is_not_blocked_by_a_job(kstatus: KStatus, phase: str, status: Json) -> None:
    """Only the operator creates jobs, so nothing should wait for them or fail because of them."""
    assert status["phase"] == phase
    (result,) = kstatus([merged(a_job("any"), {"metadata": {"generation": 1}, "status": status})])
    assert result["status"] == "Current"


@pytest.fixture
def helm(kubectl: Kubectl, name: str, helm4_program: Path, tmp_path: Path) -> Iterator["HelmChart"]:
    chart = HelmChart(helm4_program, tmp_path, kubectl, name)
    yield chart
    chart.run("uninstall", name)


class HelmChart:
    """A user's own chart that contains a source, and Helm 4."""

    def __init__(self, program: Path, folder: Path, kubectl: Kubectl, name: str) -> None:
        self.program, self.folder, self.kubectl, self.name = program, folder, kubectl, name
        (folder / "templates").mkdir()
        (folder / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "shop", "version": "1.0.0"}))
        source = merged(example_source(), {"metadata": {"name": name}})
        (folder / "templates" / "source.yaml").write_text(yaml.safe_dump(source))

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        helm = Helm(self.program, self.folder / "home", self.kubectl.cluster.admin_kubeconfig)
        return helm.try_run(*arguments, "--namespace", self.kubectl.namespace)

    def install(self) -> None:
        done = self.run("install", self.name, str(self.folder))
        assert done.returncode == 0, done.stderr

    def upgrade_and_wait(self, timeout: str) -> "subprocess.CompletedProcess[str]":
        return self.run("upgrade", self.name, str(self.folder), "--wait", "--timeout", timeout)


def test_helm_4_waits_for_a_source_that_is_not_processed_until_its_timeout(helm: HelmChart) -> None:
    helm.install()
    done = helm.upgrade_and_wait("8s")
    assert done.returncode != 0
    assert f"EmbeddingSource/{helm.kubectl.namespace}/{helm.name} not ready. status: InProgress" in done.stderr


def test_helm_4_fails_at_once_on_a_refused_source(helm: HelmChart) -> None:
    helm.install()
    patch_status(helm.kubectl, helm.name, shown(replace(NEW, refused=REFUSED, generation=FIRST)))
    done = helm.upgrade_and_wait("100s")
    assert done.returncode != 0
    assert f"status: Failed, message: {REFUSED[1]}" in done.stderr
    assert "deadline exceeded" not in done.stderr


def test_helm_4_succeeds_with_a_source_that_is_being_processed(helm: HelmChart) -> None:
    helm.install()
    patch_status(helm.kubectl, helm.name, shown(replace(SWEEPING, generation=FIRST)))
    done = helm.upgrade_and_wait("100s")
    assert done.returncode == 0, done.stderr
