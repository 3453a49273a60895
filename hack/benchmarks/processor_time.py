"""The processor time of processes on this machine: the operator, the API server with its etcd, PostgreSQL.

Called by the measurements that compare costs. Of processor time two runs differ less than of durations, because other programs on
the machine make them wait, but cost them little.
"""

from dataclasses import dataclass

import psutil
import psycopg

from hack.benchmarks.errors import Skipped
from hack.cluster_choice.choice import Cluster
from hack.control_plane.kubeconfig import current_context

ELSEWHERE = "skipped: its process is not on this machine"


@dataclass(frozen=True)
class Spent:
    """Seconds of processor time since these processes began."""

    operator: float = 0.0
    api_server: float = 0.0
    """Of kube-apiserver and etcd."""
    database: float = 0.0
    """Of all processes of the PostgreSQL server."""

    @property
    def total(self) -> float:
        return self.operator + self.api_server + self.database

    def since(self, earlier: "Spent") -> "Spent":
        return Spent(
            self.operator - earlier.operator, self.api_server - earlier.api_server, self.database - earlier.database
        )


@dataclass(frozen=True)
class Processes:
    """Those whose time is counted. A server that several programs use is to be used by one of them only meanwhile."""

    operator: int | None
    api_server: tuple[int, ...]
    postmaster: int | None

    def spent(self) -> Spent:
        return Spent(
            operator=_of_tree(self.operator) if self.operator is not None else 0.0,
            api_server=sum(map(_of_tree, self.api_server)),
            database=_of_tree(self.postmaster) if self.postmaster is not None else 0.0,
        )


def _of_tree(pid: int) -> float:
    """The seconds of a process, of the children that have ended, and of those that run."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    seconds = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        try:
            seconds += _of_tree(child.pid)
        except psutil.NoSuchProcess:  # it has ended meanwhile, and is among those from now on
            continue
    return float(seconds)


def api_server_of(cluster: Cluster) -> tuple[int, int]:
    """The processes of kube-apiserver and etcd. Raises Skipped if they are not on this machine."""
    port = int(current_context(cluster.admin_kubeconfig).cluster["server"].rpartition(":")[2])
    for process in psutil.process_iter(["name", "cmdline"]):
        command = process.info["cmdline"] or []
        if process.info["name"] == "kube-apiserver" and f"--secure-port={port}" in command:
            etcd = next(word.partition("=")[2] for word in command if word.startswith("--etcd-servers="))
            return process.pid, _etcd_at(etcd)
    raise Skipped(ELSEWHERE)


def _etcd_at(address: str) -> int:
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "etcd" and any(address in word for word in process.info["cmdline"] or []):
            return process.pid
    raise Skipped(ELSEWHERE)


def postmaster_of(url: str) -> int:
    """The process whose children are all processes of the database server. Raises Skipped if it is not on this machine."""
    with psycopg.connect(url) as connection:
        backend = connection.info.backend_pid
        try:
            parent = psutil.Process(backend).parent()
        except psutil.NoSuchProcess:
            parent = None
    if parent is None or parent.name() != "postgres":
        raise Skipped(ELSEWHERE)
    return parent.pid
