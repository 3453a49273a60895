"""The operator as users have it, without a container: CRDs, a namespace, a service account with just the chart's rights,
and `embedding-operator run` as a process that uses them. Called by the demo and by the tests; never the admin's rights.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.control_plane.choice import Cluster
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.daemons import Daemon, end, is_running, log_tail, start_daemon, wait_until_ready
from hack.environment import program_environment
from hack.errors import ToolError

ROOT = Path(__file__).parents[1]
CRDS = ROOT / "crds"
RULES = ROOT / "charts" / "embedding-operator" / "files" / "rules.yaml"
ACCOUNT = "embedding-operator"
READY_WITHIN_S = 60.0
ENDS_WITHIN_S = 40.0


@dataclass(frozen=True)
class Kubectl:
    """kubectl as the cluster's administrator, in one namespace."""

    cluster: Cluster
    namespace: str = "default"

    def command(self, *arguments: str) -> list[str]:
        base = [self.cluster.kubectl, "--kubeconfig", self.cluster.admin_kubeconfig, "--namespace", self.namespace]
        return [*map(str, base), *arguments]

    def try_run(
        self, *arguments: str, stdin: str | None = None, within_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            env=program_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
        )

    def run(self, *arguments: str, stdin: str | None = None, within_s: float = 60) -> str:
        """Returns what it prints. Raises ToolError with kubectl's own words."""
        done = self.try_run(*arguments, stdin=stdin, within_s=within_s)
        if done.returncode != 0:
            raise ToolError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.run("get", *arguments, "-o", "json"))


def apply_crds(cluster: Cluster) -> list[str]:
    """Apply crds/ and wait until they are served. Returns the names of those that were not there before."""
    kubectl = Kubectl(cluster)
    documents = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
    names = [document["metadata"]["name"] for document in documents]
    present = kubectl.run("get", "crds", "-o", "name").split()
    missing = [name for name in names if f"customresourcedefinition.apiextensions.k8s.io/{name}" not in present]
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in names))
    # Established is said a moment before they are served: until then a list is answered by 429, which kubectl waits out.
    kubectl.run("get", "embeddingsources,embeddingjobs")
    return missing


@contextmanager
def crds_applied(cluster: Cluster) -> Iterator[None]:
    """The CRDs while the context lasts; those that it brought go again with it."""
    brought = apply_crds(cluster)
    try:
        yield
    finally:
        if brought:
            Kubectl(cluster).run("delete", "crds", "--ignore-not-found", "--timeout=60s", *brought, within_s=90)


def make_namespace(cluster: Cluster, namespace: str, folder: Path) -> Path:
    """A namespace with the operator's service account and Role. Returns the account's kubeconfig, made in `folder`."""
    kubectl = Kubectl(cluster, namespace)
    names = {"name": ACCOUNT, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    manifests: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": names},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": names, "rules": yaml.safe_load(RULES.read_text())},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": names,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", **names}],
        },
    ]
    kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))
    out = folder / f"{namespace}.kubeconfig"
    return service_account_kubeconfig(cluster.admin_kubeconfig, namespace, ACCOUNT, out, kubectl=cluster.kubectl)


@contextmanager
def namespace_made(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Path]:
    """A namespace, and all in it, while the context lasts. Gives the service account's kubeconfig."""
    kubeconfig = make_namespace(cluster, namespace, folder)
    try:
        yield kubeconfig
    finally:
        # Without a controller-manager nothing empties a namespace, so what is ours is deleted by name.
        kubectl = Kubectl(cluster, namespace)
        for kind in ("embeddingsources", "embeddingjobs"):  # --all would delete them one by one
            kubectl.run("delete", "--raw", f"/apis/embeddings.yellowbook.dev/v1alpha1/namespaces/{namespace}/{kind}")
        kubectl.run("delete", "rolebinding,role,serviceaccount", ACCOUNT, "--ignore-not-found")
        kubectl.run("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


class OperatorProcess:
    """`embedding-operator run` with a service account's kubeconfig. Its log is a file, one JSON object a line."""

    def __init__(
        self,
        *,
        kubeconfig: Path,
        database_url: str,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        name: str = "operator",
        dry_run: bool = False,
    ) -> None:
        self.log = folder / f"{name}.log"
        self._arguments = ["run", "--dry-run"] if dry_run else ["run"]
        self._settings = {
            "KUBECONFIG": str(kubeconfig),
            "DATABASE_URL": database_url,
            "EMBEDDING_HTTP_PORT": "0",  # several run beside each other
            **dict(settings or {}),
        }
        self._daemon: Daemon | None = None

    def start(self, *, ends_with_parent: bool = True) -> None:
        """Start it, and return when it watches. Raises DaemonDied with the end of its log."""
        seen = self.log.read_text().count("operator ready") if self.log.exists() else 0
        program = Path(sys.executable).with_name("embedding-operator")
        self._daemon = start_daemon(
            "embedding-operator",
            [program, *self._arguments],
            log=self.log,
            ends_with_parent=ends_with_parent,
            settings=self._settings,
        )
        wait_until_ready(
            self._daemon, lambda: self.log.read_text().count("operator ready") > seen, within_s=READY_WITHIN_S
        )

    @property
    def daemon(self) -> Daemon:
        if self._daemon is None:
            raise ToolError("the operator was not started")
        return self._daemon

    @property
    def http_url(self) -> str:
        """Where /healthz, /readyz and /metrics are."""
        events = [json.loads(line) for line in self.log.read_text().splitlines() if '"http server up"' in line]
        return f"http://127.0.0.1:{events[-1]['port']}"

    def is_running(self) -> bool:
        return self._daemon is not None and is_running(self._daemon)

    def stop(self) -> None:
        """SIGTERM, and wait for its end: it drains first."""
        if self._daemon is not None:
            end(self._daemon, within_s=ENDS_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL: what a node's end is to a pod."""
        end(self.daemon, within_s=ENDS_WITHIN_S, first=signal.SIGKILL)

    def tail(self) -> str:
        return log_tail(self.log, lines=40)
