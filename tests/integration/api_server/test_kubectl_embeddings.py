"""`kubectl embeddings` as a process: what its verbs read from and write to a real API server, with the rights of its user."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.resources.embedding_source import RECONCILE_ANNOTATION
from hack.processes.environment import program_environment
from hack.processes.run import run_to_end
from tests.integration.api_server.conftest import Namespace
from tests.support.deadline import wait_until
from tests.support.manifests import Json, a_job, a_source

PROGRAM = Path(sys.executable).with_name("kubectl-embeddings")
ENDED = {"completionTime": "2026-03-01T11:50:00Z", "message": "the text was refused"}


class Plugin:
    """The command in this namespace, as its administrator or with another kubeconfig."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.kubectl = namespace.kubectl

    def arguments(self, *arguments: str, kubeconfig: Path | None = None) -> list[str]:
        where = ["--kubeconfig", str(kubeconfig or self.namespace.admin_kubeconfig), "-n", self.namespace.name]
        return [str(PROGRAM), *arguments, *where]

    @property
    def given(self) -> str:
        """What a command to copy has, because it was given."""
        return f"-n {self.namespace.name} --kubeconfig {self.namespace.admin_kubeconfig}"

    def run(self, *arguments: str, kubeconfig: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return run_to_end(self.arguments(*arguments, kubeconfig=kubeconfig), within_s=60)

    def says(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, body: Json, **status: Any) -> None:
        self.kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(body))
        if status:
            self.set_status(body["kind"], body["metadata"]["name"], **status)

    def set_status(self, kind: str, name: str, **status: Any) -> None:
        patch = json.dumps({"status": status})
        self.kubectl.run("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)

    def phases(self, *names: str) -> list[str]:
        return [self.kubectl.get("embeddingjob", name)["status"]["phase"] for name in names]


@pytest.fixture(scope="module")
def plugin(namespace: Namespace) -> Plugin:
    """With three dead letters of two reasons, and a job that is well, in the source `shops`."""
    plugin = Plugin(namespace)
    plugin.create(a_source("shops"), observedGeneration=1, summary="Sweeping", jobs={"open": 1, "deadLettered": 3})
    for name, reason in (("s-1", "InputRejected"), ("s-2", "InputRejected"), ("s-3", "TextTooLong")):
        job = a_job(name, sourceRef={"name": "shops"}, businessId=name)
        plugin.create(job, phase="DeadLettered", attempts=1, reason=reason, **ENDED)
    plugin.create(a_job("s-4", sourceRef={"name": "shops"}))
    return plugin


def test_status_shows_a_source_and_the_command_that_helps(plugin: Plugin) -> None:
    shown = plugin.says("status", "shops")
    assert shown.splitlines()[1].split()[:2] == ["shops", "Sweeping"]
    assert f"  3 dead letters\n    kubectl embeddings dead-letters --source shops {plugin.given}\n" in shown


def test_kubectl_finds_the_plugin(plugin: Plugin) -> None:
    path = f"{PROGRAM.parent}:{program_environment()['PATH']}"
    where = ["--kubeconfig", str(plugin.namespace.admin_kubeconfig), "-n", plugin.namespace.name]
    command = [str(plugin.kubectl.cluster.kubectl), "embeddings", "status", "shops", *where]
    done = run_to_end(command, within_s=60, settings={"PATH": path})
    assert (done.returncode, done.stdout) == (0, plugin.says("status", "shops"))


def test_jobs_are_the_objects_that_kubectl_gets(plugin: Plugin) -> None:
    selected = plugin.says("jobs", "--source", "shops", "--phase", "DeadLettered", "-o", "json")
    items = json.loads(selected)["items"]
    assert items == [plugin.kubectl.get("embeddingjob", name) for name in ("s-1", "s-2", "s-3")]


def test_a_row_with_any_id_is_found_by_it(plugin: Plugin) -> None:
    plugin.create(a_job("odd", businessId="a,b=c\\d", sourceRef={"name": "others"}))
    assert [line.split()[0] for line in plugin.says("jobs", "--id", "a,b=c\\d").splitlines()] == ["JOB", "odd"]


def test_dead_letters_are_grouped_and_those_of_one_reason_are_replayed(plugin: Plugin) -> None:
    shown = plugin.says("dead-letters", "--source", "shops")
    assert [line for line in shown.splitlines() if line.startswith("  kubectl")] == [
        f"  kubectl embeddings replay --reason InputRejected --source shops {plugin.given}",
        f"  kubectl embeddings replay --reason TextTooLong --source shops {plugin.given}",
    ]
    assert "2 of 2 would be replayed" in plugin.run("replay", "--reason", "InputRejected", "--dry-run").stderr
    assert plugin.phases("s-1") == ["DeadLettered"]
    assert plugin.says("replay", "--reason", "InputRejected").count("✓") == 2
    assert plugin.phases("s-1", "s-2", "s-3") == ["Pending", "Pending", "DeadLettered"]


def test_of_two_names_one_of_which_is_wrong_the_other_is_replayed(plugin: Plugin) -> None:
    plugin.create(a_job("named"), phase="DeadLettered", attempts=1, reason="InputRejected", **ENDED)
    done = plugin.run("replay", "named", "unknown")
    assert done.returncode == 3
    assert f"✗ unknown: namespace {plugin.namespace.name} has no EmbeddingJob unknown" in done.stdout
    assert plugin.phases("named") == ["Pending"]


def test_a_source_is_suspended_and_resumed(plugin: Plugin) -> None:
    plugin.create(a_source("paused"))
    for verb, expected in (("suspend", True), ("resume", False)):
        plugin.says(verb, "paused")
        assert plugin.kubectl.get("embeddingsource", "paused")["spec"]["suspend"] is expected


def test_reconcile_waits_until_the_operator_has_done_it(plugin: Plugin) -> None:
    plugin.create(a_source("asked"))
    command = plugin.arguments("reconcile", "asked", "--wait", "--timeout", "60s")
    with subprocess.Popen(command, env=program_environment(), stdout=subprocess.PIPE, text=True) as process:

        def token() -> str:
            found = plugin.kubectl.get("embeddingsource", "asked")["metadata"].get("annotations", {})
            return str(found.get(RECONCILE_ANNOTATION, ""))

        wait_until(token, within_s=30, because="reconcile writes the annotation")
        assert process.poll() is None
        plugin.set_status("embeddingsource", "asked", lastHandledReconcileAt=token())
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "✓ asked: the sweep and the audit are done\n")


def test_approve_asks_unless_it_is_told_not_to(plugin: Plugin) -> None:
    change = {"pendingFingerprint": "other@8#1234", "reembed": {"rows": 335, "estimatedCost": "0.1250"}}
    plugin.create(a_source("changed"), **change)
    asked = plugin.run("approve", "changed")
    assert (asked.returncode, asked.stderr.count("add --yes")) == (2, 1)
    assert "rows     335" in plugin.says("approve", "changed", "--yes")
    assert plugin.kubectl.get("embeddingsource", "changed")["spec"]["approvedFingerprint"] == "other@8#1234"


def test_a_user_without_the_right_is_told_what_is_refused(plugin: Plugin) -> None:
    """The operator's own account may read sources, and not change them."""
    kubeconfig = plugin.namespace.operator_kubeconfig
    wait_until(
        lambda: plugin.run("status", "shops", kubeconfig=kubeconfig).returncode == 0,
        within_s=30,
        because="the account's Role was created",
    )
    done = plugin.run("suspend", "shops", kubeconfig=kubeconfig)
    assert done.returncode == 1
    assert done.stderr.startswith("kubectl embeddings: the API server refuses this: embeddingsources")
    assert 'cannot patch resource "embeddingsources"' in done.stderr


def test_credentials_of_an_exec_plugin_and_another_context_are_used(plugin: Plugin, tmp_path: Path) -> None:
    content = yaml.safe_load(plugin.namespace.operator_kubeconfig.read_text())
    (user,) = content["users"]
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": user["user"]["token"]},
    }
    (tmp_path / "credential.json").write_text(json.dumps(credential))
    command = {"apiVersion": credential["apiVersion"], "command": "cat", "interactiveMode": "IfAvailable"}
    user["user"] = {"exec": command | {"args": [str(tmp_path / "credential.json")]}}
    content["contexts"][0]["name"] = "by-plugin"
    content["current-context"] = "of-another-cluster"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    done = plugin.run("status", "shops", "--context", "by-plugin", kubeconfig=path)
    given = f"-n {plugin.namespace.name} --context by-plugin --kubeconfig {path}"
    expected = plugin.says("status", "shops").replace(plugin.given, given)
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_an_api_server_that_is_away_is_said_in_a_sentence(plugin: Plugin, tmp_path: Path) -> None:
    content = yaml.safe_load(plugin.namespace.operator_kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    done = plugin.run("status", kubeconfig=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "kubectl embeddings: the API server cannot be reached (ClientConnectorError): look with "
        f"`kubectl cluster-info --kubeconfig {path}`\n"
    )


def test_kubectl_completes_verbs_and_options(plugin: Plugin) -> None:
    path = f"{PROGRAM.parent}:{program_environment()['PATH']}"
    kubectl = str(plugin.kubectl.cluster.kubectl)
    for words, expected in ((["s"], {"status", "suspend"}), (["jobs", "--ph"], {"--phase"})):
        done = run_to_end([kubectl, "__complete", "embeddings", *words], within_s=60, settings={"PATH": path})
        assert {line.split()[0] for line in done.stdout.splitlines() if not line.startswith(":")} == expected
