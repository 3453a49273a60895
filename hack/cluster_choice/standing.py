"""A cluster that stays between commands, of kind or a control plane of this machine. A later command finds it by its folder.

Called by `hack/cluster` only.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hack.cluster_choice.choice import control_plane_origin, control_plane_programs, kind_origin
from hack.cluster_choice.kind import KindCluster
from hack.control_plane.commands import ADMIN_KUBECONFIG
from hack.control_plane.processes import ControlPlane
from hack.control_plane.state import State, end_and_remove, read_state
from hack.errors import KindUnavailable
from hack.processes import environment

ORIGIN = "origin"
"""The file with the line that says which cluster it is and why. It is written last, so the start was complete if it exists."""
HALF_STARTED = "its start was interrupted"


class StandingCluster(Protocol):
    @property
    def origin(self) -> str: ...
    @property
    def kubeconfig(self) -> Path: ...
    @property
    def kubectl(self) -> Path: ...
    def problem(self) -> str | None:
        """Why it can't be used, as a clause; None: it runs."""

    def running(self) -> str:
        """What runs, and where, as a clause."""

    def end(self) -> None:
        """End it, and remove its data."""


@dataclass(frozen=True)
class OwnControlPlane:
    folder: Path
    state: State

    @property
    def origin(self) -> str:
        return _origin(self.folder)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / ADMIN_KUBECONFIG

    @property
    def kubectl(self) -> Path:
        return self.state.kubectl

    def problem(self) -> str | None:
        if self.state.ended:
            return f"{' and '.join(self.state.ended)} ended"
        return None if (self.folder / ORIGIN).exists() else HALF_STARTED

    def running(self) -> str:
        processes = ", ".join(f"{daemon.name} {daemon.pid}" for daemon in self.state.daemons)
        address = f"https://127.0.0.1:{self.state.ports.apiserver}"
        return f"Kubernetes {self.state.version} at {address} (processes: {processes})"

    def end(self) -> None:
        end_and_remove(self.folder, self.state.daemons)


@dataclass(frozen=True)
class KindOnEngine:
    cluster: KindCluster

    @property
    def origin(self) -> str:
        return _origin(self.cluster.folder)

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    @property
    def kubectl(self) -> Path:
        return self.cluster.kubectl

    def problem(self) -> str | None:
        if not (self.cluster.folder / ORIGIN).exists():
            return HALF_STARTED
        return None if self.cluster.answers() else "its API server does not answer"

    def running(self) -> str:
        return f"kind cluster {self.cluster.name}, in {self.cluster.engine}"

    def end(self) -> None:
        self.cluster.delete()


def find(folder: Path) -> StandingCluster | None:
    """The cluster that was started in this folder, even if it does not run any more."""
    kind = KindCluster.found_in(folder)
    if kind is not None:
        return KindOnEngine(kind)
    state = read_state(folder)
    return None if state is None else OwnControlPlane(folder, state)


def start(name: str, folder: Path, *, say: Callable[[str], None]) -> StandingCluster:
    """Start a control plane of KUBEBUILDER_ASSETS if it is set; else kind, if that starts; else a control plane built here.

    Raises WrongSetting, BuildFailed, StartFailed.
    """
    assets = environment.kubebuilder_assets()
    why_not_kind = ""
    if assets is None:
        try:
            cluster = KindCluster.create(kind_name(name, folder), folder, say=say)
        except KindUnavailable as exc:
            why_not_kind = str(exc)
        else:
            (folder / ORIGIN).write_text(kind_origin(cluster.engine))
            return KindOnEngine(cluster)
    programs = control_plane_programs()
    ControlPlane(folder, programs=programs, ends_with_parent=False).start()
    origin = control_plane_origin(programs.kubernetes_version, programs_folder=assets, why_not_kind=why_not_kind)
    (folder / ORIGIN).write_text(origin)
    state = read_state(folder)
    assert state is not None
    return OwnControlPlane(folder, state)


def kind_name(name: str, folder: Path) -> str:
    """The cluster's name in the engine. It differs between checkouts; with kind's own suffix it has at most 63 characters."""
    return f"eo-{name[:35]}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"


def _origin(folder: Path) -> str:
    return (folder / ORIGIN).read_text()
