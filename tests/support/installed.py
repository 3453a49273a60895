"""A release of the chart on a cluster with pods: it is installed, inspected and changed with Helm and kubectl only.

Called by the end-to-end tests.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster_choice.pods import PodCluster
from hack.go_build.programs import go_program
from hack.installation.helm import Helm
from hack.installation.kubectl import Kubectl
from hack.processes.run import run_to_end
from tests.support.deadline import wait_until

DEPLOYMENT = "embedding-operator"
DATABASE = "yellow_book"
PASSWORD = "only-for-tests"


@dataclass(frozen=True)
class Release:
    """A release of the chart in a namespace of its own."""

    name: str
    namespace: str
    pods: PodCluster
    helm_version: str
    values: tuple[str, ...]

    @property
    def helm(self) -> Helm:
        kubeconfig = self.pods.cluster.admin_kubeconfig
        return Helm(go_program(self.helm_version), kubeconfig.parent / "helm", kubeconfig)

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.pods.cluster, self.namespace)

    @property
    def fullname(self) -> str:
        return f"{self.name}-{DEPLOYMENT}"

    def install(self, *values: str, timeout_s: int = 120) -> str:
        """Install or upgrade, with the release's own values and these."""
        flags = (*self.pods.operator_flags, *self.values, *values)
        return self.helm.upgrade(self.name, *flags, namespace=self.namespace, timeout_s=timeout_s)

    def uninstall(self) -> None:
        self.helm.run("uninstall", self.name, "--namespace", self.namespace, "--wait", within_s=180)

    def pod(self) -> Any:
        """The operator's running pod, once it is the only one: after an upgrade, the one before ends later."""
        return wait_until(self._only_pod, within_s=60, every_s=0.5, because="one pod is wanted")

    def _only_pod(self) -> Any:
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=operator"
        pods = [
            pod
            for pod in self.kubectl.get("pods", "--selector", selector)["items"]
            if "deletionTimestamp" not in pod["metadata"]
        ]
        return pods[0] if len(pods) == 1 else None

    def leader(self) -> str:
        """The name of the pod that works; empty while none does."""
        return str(self.kubectl.get("lease", DEPLOYMENT)["spec"].get("holderIdentity", ""))

    def embeddings(self, *arguments: str) -> str:
        """What this verb of `kubectl embeddings` prints."""
        program = Path(sys.executable).with_name("kubectl-embeddings")
        where = ["--kubeconfig", str(self.pods.cluster.admin_kubeconfig), "--namespace", self.namespace]
        done = run_to_end([str(program), *arguments, *where], within_s=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait_for(self, condition: str, resource: str, *, within_s: int = 120) -> None:
        self.kubectl.run("wait", f"--for={condition}", resource, f"--timeout={within_s}s", within_s=within_s + 30)

    def jobs(self, *fields: str) -> list[Any]:
        selected = [f"--field-selector={','.join(fields)}"] if fields else []
        items: list[Any] = self.kubectl.get("embeddingjobs", *selected)["items"]
        return items

    def job_in_phase(self, phase: str, business: int, *, within_s: float = 60) -> str:
        """Wait for the business's job in this phase, and return its name."""
        fields = (f"spec.businessId={business}", f"status.phase={phase}")
        wait_until(
            lambda: bool(self.jobs(*fields)),
            within_s=within_s,
            every_s=0.2,
            because=f"a job of business {business} reaches the phase {phase}",
        )
        return str(self.jobs(*fields)[0]["metadata"]["name"])

    def patch(self, resource: str, patch: Mapping[str, object], *more: str) -> None:
        self.kubectl.run("patch", resource, "--type=merge", "-p", json.dumps(patch), *more)

    def replay(self, job: str) -> None:
        """The command that the README gives for a replay."""
        self.patch(f"embeddingjob/{job}", {"status": {"phase": "Pending"}}, "--subresource=status")
