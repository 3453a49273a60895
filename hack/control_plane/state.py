"""The file in which a control plane records its processes, so that a later command can find and end them.

Called by ControlPlane, which writes it after every process it starts, and by `hack/cluster`.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hack.processes.daemons import Daemon, daemon_of, end, is_running

END_WITHIN_S = 3.0  # killing them after that loses nothing, because their data is removed anyway
FILE_NAME = "processes.json"


@dataclass(frozen=True)
class Ports:
    etcd_client: int
    etcd_peer: int
    apiserver: int


@dataclass(frozen=True)
class State:
    version: str
    kubectl: Path
    ports: Ports
    daemons: tuple[Daemon, ...]  # in the order in which they were started

    @property
    def ended(self) -> list[str]:
        """The names of the processes that should run and do not; empty: all of them run."""
        alive = {daemon.name for daemon in self.daemons if is_running(daemon)}
        return [name for name in ("etcd", "kube-apiserver") if name not in alive]


def write_state(folder: Path, state: State) -> None:
    unfinished = folder / f".{FILE_NAME}"
    unfinished.write_text(json.dumps(asdict(state), default=str, indent=2) + "\n")
    unfinished.replace(folder / FILE_NAME)


def read_state(folder: Path) -> State | None:
    """None: there is no control plane in `folder`."""
    file = folder / FILE_NAME
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    daemons = tuple(daemon_of(entry) for entry in content["daemons"])
    return State(content["version"], Path(content["kubectl"]), Ports(**content["ports"]), daemons)


def end_and_remove(folder: Path, daemons: Sequence[Daemon]) -> None:
    """End the processes, the last started first (the API server before its etcd), and remove their files."""
    for daemon in reversed(daemons):
        end(daemon, within_s=END_WITHIN_S)
    shutil.rmtree(folder, ignore_errors=True)
