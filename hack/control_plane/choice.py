"""Which cluster the tests and the demo use: the one that was given, or a control plane of our own.

Called by tests/conftest.py, by the demo and by `hack/cluster`, so that all of them choose alike.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hack import environment
from hack.control_plane.build import kubectl_path
from hack.control_plane.kubeconfig import current_context
from hack.control_plane.processes import ControlPlane
from hack.errors import WrongSetting


@dataclass(frozen=True)
class GivenCluster:
    kubeconfig: Path
    origin: str


@dataclass(frozen=True)
class Cluster:
    """A cluster ready for use. `origin` says in one line which it is and why."""

    admin_kubeconfig: Path
    kubectl: Path
    origin: str


def given_cluster() -> GivenCluster | None:
    """The cluster that CLUSTER_KUBECONFIG names. Raises WrongSetting when it names none; None: it is not set."""
    path = environment.cluster_kubeconfig()
    if path is None:
        return None
    try:
        context = current_context(path)
    except WrongSetting as exc:
        raise WrongSetting(
            f"CLUSTER_KUBECONFIG: {exc}: set it to the kubeconfig of a cluster's administrator, or unset it to have a "
            "control plane built"
        ) from exc
    server = context.cluster["server"]
    return GivenCluster(
        path, f"the given cluster at {server} (context {context.name}), because CLUSTER_KUBECONFIG is set"
    )


def built_origin(version: str) -> str:
    return f"a control plane of our own, Kubernetes {version}, because CLUSTER_KUBECONFIG is not set"


@contextmanager
def cluster_for_tests(folder: Path, *, ends_with_parent: bool = True) -> Iterator[Cluster]:
    """The given cluster, left as it is at the end, or a control plane in `folder`, which ends with this context."""
    given = given_cluster()
    if given is not None:
        on_path = shutil.which("kubectl")
        yield Cluster(given.kubeconfig, Path(on_path) if on_path else kubectl_path(), given.origin)
        return
    with ControlPlane(folder / "control-plane", ends_with_parent=ends_with_parent) as control_plane:
        origin = built_origin(control_plane.programs.kubernetes_version)
        yield Cluster(control_plane.kubeconfig, control_plane.kubectl, origin)
