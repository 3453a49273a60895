"""Chooses a cluster: the given one, a control plane of the given programs, kind, or a control plane that is built here.

Called by tests/conftest.py, by the demo and by `hack/cluster`, so that all of them choose in the same way. Each choice is
explained in one line. Only `hack/cluster up` (by hack.cluster_choice.standing) and what needs nodes use kind.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hack.cluster_choice.kind import find_kubectl
from hack.control_plane.build import binaries
from hack.control_plane.kubeconfig import current_context
from hack.control_plane.pins import Binaries
from hack.control_plane.processes import ControlPlane
from hack.errors import WrongSetting
from hack.processes import environment
from hack.processes.run import run_to_end

NOT_FOR_TESTS = "kind is left to `hack/cluster up` and `make e2e`: its node image is about 1 GB"
VERSION_WITHIN_S = 30.0
ASSETS_REMEDY = "set it to a folder with etcd, kube-apiserver and kubectl, or unset it"


@dataclass(frozen=True)
class GivenCluster:
    kubeconfig: Path
    origin: str


@dataclass(frozen=True)
class Cluster:
    """A running cluster. `origin` says in one line which it is and why."""

    admin_kubeconfig: Path
    kubectl: Path
    origin: str


def given_cluster() -> GivenCluster | None:
    """The cluster that CLUSTER_KUBECONFIG names. Raises WrongSetting if it names none. None: it is not set."""
    path = environment.cluster_kubeconfig()
    if path is None:
        return None
    try:
        context = current_context(path)
    except WrongSetting as exc:
        raise WrongSetting(
            f"CLUSTER_KUBECONFIG: {exc}: set it to the kubeconfig of a cluster's administrator, or unset it to have a "
            "cluster started"
        ) from exc
    server = context.cluster["server"]
    return GivenCluster(
        path, f"the given cluster at {server} (context {context.name}), because CLUSTER_KUBECONFIG is set"
    )


def given_programs() -> Binaries | None:
    """The programs in the folder KUBEBUILDER_ASSETS. Raises WrongSetting if one is missing. None: it is not set."""
    folder = environment.kubebuilder_assets()
    if folder is None:
        return None
    programs = [folder / name for name in ("etcd", "kube-apiserver", "kubectl")]
    missing = [path.name for path in programs if not (path.is_file() and os.access(path, os.X_OK))]
    if missing:
        raise WrongSetting(f"KUBEBUILDER_ASSETS: {folder} holds no program {' and no '.join(missing)}: {ASSETS_REMEDY}")
    etcd, apiserver, kubectl = programs
    return Binaries(etcd, apiserver, kubectl, _version_of(apiserver))


def _version_of(apiserver: Path) -> str:
    try:
        shown = run_to_end([apiserver, "--version"], within_s=VERSION_WITHIN_S).stdout
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise WrongSetting(f"KUBEBUILDER_ASSETS: {apiserver} can't be run ({exc}): {ASSETS_REMEDY}") from exc
    version = re.search(r"Kubernetes v(\S+)", shown)
    if version is None:
        raise WrongSetting(f"KUBEBUILDER_ASSETS: {apiserver} --version names no version, {shown!r}: {ASSETS_REMEDY}")
    return version[1]


def control_plane_programs() -> Binaries:
    """The given programs, or those that are built here."""
    return given_programs() or binaries()


def control_plane_origin(version: str, *, programs_folder: Path | None, why_not_kind: str) -> str:
    """`programs_folder` is the value of KUBEBUILDER_ASSETS; None: the programs were built."""
    if programs_folder is not None:
        because = f"the programs in {programs_folder}, because KUBEBUILDER_ASSETS is set"
        return f"a control plane of our own, Kubernetes {version}, of {because}"
    return (
        f"a control plane of our own, Kubernetes {version}, because neither CLUSTER_KUBECONFIG nor KUBEBUILDER_ASSETS is "
        f"set, and {why_not_kind}"
    )


def kind_origin(engine: str) -> str:
    return f"a kind cluster, because neither CLUSTER_KUBECONFIG nor KUBEBUILDER_ASSETS is set, and {engine} answers"


@contextmanager
def cluster_for_tests(folder: Path, *, ends_with_parent: bool = True) -> Iterator[Cluster]:
    """The given cluster, left as it is at the end, or a control plane in `folder`, which ends with this context.

    It is never a kind cluster, because tests should not pull an image of 1 GB.
    """
    given = given_cluster()
    if given is not None:
        yield Cluster(given.kubeconfig, find_kubectl(), given.origin)
        return
    programs = control_plane_programs()
    origin = control_plane_origin(
        programs.kubernetes_version, programs_folder=environment.kubebuilder_assets(), why_not_kind=NOT_FOR_TESTS
    )
    plane = ControlPlane(folder / "control-plane", programs=programs, ends_with_parent=ends_with_parent)
    with plane as control_plane:
        yield Cluster(control_plane.kubeconfig, control_plane.kubectl, origin)
