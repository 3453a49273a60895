"""What the operator needs in a cluster: the CRDs, and a namespace with a service account that has the chart's rights.

Called by the demo and the tests, as the cluster's administrator. The operator itself never gets more than these rights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hack.cluster_choice.choice import Cluster
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.installation.kubectl import Kubectl
from hack.repository import CRDS, RULES, SERVE_RULES

ACCOUNT = "embedding-operator"
SERVE_ACCOUNT = "embedding-operator-serve"


def apply_crds(cluster: Cluster) -> list[str]:
    """Apply crds/ and wait until they are served. Returns the names of those that did not exist before."""
    kubectl = Kubectl(cluster)
    documents = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
    names = [document["metadata"]["name"] for document in documents]
    present = kubectl.run("get", "crds", "-o", "name").split()
    missing = [name for name in names if f"customresourcedefinition.apiextensions.k8s.io/{name}" not in present]
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    wait_until_served(kubectl, names)
    return missing


def wait_until_served(kubectl: Kubectl, names: list[str]) -> None:
    """Wait until objects of these CRDs can be read.

    A CRD that is deleted before that stays for minutes, because the API server cannot list its objects.
    """
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in names))
    # The condition is set shortly before they are served. Until then a list is answered by 429, after which kubectl retries.
    kubectl.run("get", ",".join(names))


@contextmanager
def temporary_crds(cluster: Cluster) -> Iterator[None]:
    """Apply the CRDs while the context lasts. At its end those that it created are deleted."""
    created = apply_crds(cluster)
    try:
        yield
    finally:
        if created:
            Kubectl(cluster).run("delete", "crds", "--ignore-not-found", "--timeout=60s", *created, within_s=90)


def make_namespace(cluster: Cluster, namespace: str, folder: Path) -> Path:
    """Create a namespace with the operator's account and Role. Returns the account's kubeconfig, written to `folder`."""
    itself = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    _apply(Kubectl(cluster, namespace), [itself, *_account(namespace, ACCOUNT, RULES)])
    return _kubeconfig(cluster, namespace, ACCOUNT, folder / f"{namespace}.kubeconfig")


def make_serve_account(cluster: Cluster, namespace: str, folder: Path) -> Path:
    """The same for the account of `embedding-operator serve`, which may only read sources, in a namespace that exists."""
    _apply(Kubectl(cluster, namespace), _account(namespace, SERVE_ACCOUNT, SERVE_RULES))
    return _kubeconfig(cluster, namespace, SERVE_ACCOUNT, folder / f"{namespace}-{SERVE_ACCOUNT}.kubeconfig")


def _apply(kubectl: Kubectl, manifests: list[dict[str, Any]]) -> None:
    """Apply them in their order, by one kubectl, because its start costs more than its requests."""
    kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))


def _account(namespace: str, name: str, rules: Path) -> list[dict[str, Any]]:
    """The manifests of an account with a Role of these rules."""
    names = {"name": name, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": names},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": names, "rules": yaml.safe_load(rules.read_text())},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": names,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", **names}],
        },
    ]


def _kubeconfig(cluster: Cluster, namespace: str, name: str, out: Path) -> Path:
    return service_account_kubeconfig(cluster.admin_kubeconfig, namespace, name, out, kubectl=cluster.kubectl)


@contextmanager
def temporary_namespace(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Path]:
    """Create a namespace for the time of the context. Gives the kubeconfig of the service account."""
    kubeconfig = make_namespace(cluster, namespace, folder)
    try:
        yield kubeconfig
    finally:
        # Without a controller-manager nothing empties a namespace, so our objects are deleted by name.
        kubectl = Kubectl(cluster, namespace)
        for kind in ("embeddingsources", "embeddingjobs"):  # --all would delete them one by one
            kubectl.run("delete", "--raw", f"/apis/embeddings.yellowbook.dev/v1alpha1/namespaces/{namespace}/{kind}")
        kinds, accounts = ("rolebinding", "role", "serviceaccount"), (ACCOUNT, SERVE_ACCOUNT)
        names = [f"{kind}/{name}" for kind in kinds for name in accounts]
        kubectl.run("delete", *names, f"namespace/{namespace}", "--wait=false", "--ignore-not-found")
