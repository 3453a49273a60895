"""docs/operations.md: each command that needs no pod is run as it is printed, in the page's order, on a real API server."""

import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.processes.environment import program_environment
from hack.processes.run import run_to_end
from hack.repository import EXAMPLES, ROOT
from tests.integration.api_server.conftest import Namespace
from tests.integration.api_server.test_kubectl_embeddings import ENDED, Plugin
from tests.support.manifests import a_job

PAGE = (ROOT / "docs" / "operations.md").read_text()
BLOCK = re.compile(r"(?:^ {4,}\S.*\n)+", re.MULTILINE)
NEED_PODS = ("helm", "kubectl logs")
CHANGE = {
    "summary": "ApprovalNeeded",
    "pendingFingerprint": "other@8#1234",
    "reembed": {"rows": 335, "estimatedCost": "0.1250"},
}
OWNED_ELSEWHERE = {
    "type": "Stalled",
    "status": "True",
    "reason": "OwnedElsewhere",
    "message": "annotate it",
    "lastTransitionTime": "2026-03-01T11:50:00Z",
}


def commands() -> list[str]:
    """The lines of the page's blocks of commands, in its order."""
    blocks = (textwrap.dedent(block) for block in BLOCK.findall(re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)))
    return [line for block in blocks for line in block.splitlines() if line.startswith(("kubectl", "helm"))]


class Terminal:
    """A shell of a person with a kubeconfig, kubectl and the plugin, in a folder with the files that the page names."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.folder = folder
        content = yaml.safe_load(namespace.admin_kubeconfig.read_text())
        for context in content["contexts"]:
            context["context"]["namespace"] = namespace.name
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(content))
        (folder / "database-url").write_text("postgresql://embedding_operator:the-new-one@db.example/yellow_book\n")
        (folder / "gemini-key").write_text("a-key\n")
        shutil.copy(EXAMPLES / "businesses-suspended.yaml", folder)
        programs = (Path(namespace.kubectl.cluster.kubectl).parent, Path(sys.executable).parent)
        self._path = ":".join([*map(str, programs), program_environment()["PATH"]])

    def run(self, command: str) -> str:
        settings = {"KUBECONFIG": str(self.kubeconfig), "PATH": self._path}
        shell = ["bash", "-euo", "pipefail", "-c", command]
        done = run_to_end(shell, within_s=60, settings=settings, cwd=self.folder)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def terminal(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    return Terminal(namespace, tmp_path_factory.mktemp("operations"))


def create_source(plugin: Plugin, **status: Any) -> None:
    plugin.kubectl.run("create", "-f", str(EXAMPLES / "businesses.yaml"))
    plugin.set_status("embeddingsource", "businesses", observedGeneration=1, **CHANGE, **status)


@pytest.mark.timeout(900)
def test_every_command_works_in_the_order_of_the_page(namespace: Namespace, terminal: Terminal) -> None:
    plugin = Plugin(namespace)
    create_source(plugin)
    dead = a_job("businesses-17", sourceRef={"name": "businesses"})
    plugin.create(dead, phase="DeadLettered", attempts=6, reason="RetriesExhausted", **ENDED)
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "embedding-operator"}}
    plugin.kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(lease))

    said: dict[str, str] = {}
    for command in commands():
        if command.startswith(NEED_PODS):
            continue
        if command.startswith("kubectl config set-context"):
            continue  # the namespace of this test has another name
        said[command] = terminal.run(command)
        if command.startswith("kubectl delete esrc"):
            create_source(plugin, conditions=[OWNED_ELSEWHERE])  # as in the section about moving

    assert plugin.phases("businesses-17") == ["Pending"]
    assert "BEGIN;" in (terminal.folder / "remove-businesses.sql").read_text()
    assert "annotate it" in said[next(command for command in said if "jsonpath" in command)]
    assert len(said) > 15


def test_the_page_has_no_other_command_that_needs_a_pod() -> None:
    left_out = [command for command in commands() if command.startswith(NEED_PODS)]
    assert len(left_out) == 2
