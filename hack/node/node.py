"""A whole cluster with one node on this machine: control plane, containerd, kubelet, scheduler, proxy and names.

Called by the end-to-end tests where no kind cluster can be started. Only one can run on a machine, because bridge, addresses
and iptables belong to the machine. What a killed run leaves is cleaned up by the next one, or by `make e2e-down`.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from hack.control_plane.processes import ControlPlane
from hack.go_build.programs import go_program
from hack.node import network, traces
from hack.node.commands import try_run
from hack.node.images import pause_archive
from hack.node.runtime import Containerd, end_shims, kill_containers
from hack.processes.daemons import Daemon, daemon_of, end, start_daemon, wait_until_ready
from hack.processes.environment import our_cache
from hack.processes.locked import hold_lock

DAEMONS_FILE = "daemons.json"
NODE_NAME = "embedding-operator-node"
CLUSTER_DOMAIN = "cluster.local"
NODE_READY_WITHIN_S = 120.0
PODS_END_WITHIN_S = 60
END_WITHIN_S = 10.0


def node_folder() -> Path:
    return our_cache() / "node"


class Node:
    """The cluster, while the context lasts. `kubeconfig` is the one of its administrator."""

    def __init__(self, *, say: Callable[[str], None]) -> None:
        self.folder = node_folder()
        self._say = say
        self._undo = ExitStack()
        self._daemons: list[Daemon] = []
        self._control_plane = ControlPlane(
            self.folder / "control-plane",
            controllers=["*"],
            pods_reach_it_at=network.NODE_ADDRESS,
        )

    @property
    def kubeconfig(self) -> Path:
        return self._control_plane.kubeconfig

    @property
    def kubectl(self) -> Path:
        return self._control_plane.kubectl

    @property
    def version(self) -> str:
        return self._control_plane.programs.kubernetes_version

    def load_image(self, archive: Path) -> None:
        """Import the image of a docker-archive, for pods that never pull."""
        self._containerd.import_image(archive)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(hold_node_lock(self._say))
            self._say("starting a node of our own: containerd, kubelet and a control plane on this machine")
            clean_up(self.folder)
            stack.callback(clean_up, self.folder)
            self._start(stack)
            self._undo = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        with self._undo:
            self._end_pods()

    def _start(self, stack: ExitStack) -> None:
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o700)
        traces.record(self.folder)
        network.create_bridge()
        stack.enter_context(self._control_plane)
        network.add_rules(self._control_plane.apiserver_port)
        self._containerd = Containerd(self.folder, network.write_cni_configuration(self.folder))
        self._record(self._containerd.start())
        self._containerd.import_image(pause_archive())
        self._run("coredns", "-conf", self._write("Corefile", corefile(self.kubeconfig)))
        self._run("kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0")
        proxy = self._run(
            "kube-proxy",
            f"--kubeconfig={self.kubeconfig}",
            f"--hostname-override={NODE_NAME}",
            "--proxy-mode=iptables",
            "--masquerade-all",  # answers return through the bridge's address, whatever the kernel's settings for bridges are
            "--iptables-localhost-nodeports=false",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            "--healthz-bind-address=",
            "--metrics-bind-address=",
        )
        configuration = kubelet_configuration(
            self.folder, self._containerd.socket, self._control_plane.client_authority
        )
        kubelet = self._run(
            "kubelet",
            f"--config={self._write('kubelet.yaml', yaml.safe_dump(configuration))}",
            f"--kubeconfig={self.kubeconfig}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-certificates'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={network.NODE_ADDRESS}",
        )
        wait_until_ready(kubelet, self._is_ready, within_s=NODE_READY_WITHIN_S)
        wait_until_ready(proxy, proxy_has_rules, within_s=NODE_READY_WITHIN_S)
        for daemon in self._daemons:
            wait_until_ready(daemon, lambda: True, within_s=0)  # raises if one has ended

    def _run(self, program: str, *arguments: str | Path) -> Daemon:
        daemon = start_daemon(
            program,
            [go_program(program), *arguments],
            log=self.folder / f"{program}.log",
            ends_with_parent=True,
        )
        self._record(daemon)
        return daemon

    def _record(self, daemon: Daemon) -> None:
        self._daemons.append(daemon)
        content = [asdict(daemon) for daemon in self._daemons]
        (self.folder / DAEMONS_FILE).write_text(json.dumps(content, default=str, indent=2))

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def _kubectl(self, *arguments: str) -> list[str | Path]:
        return [self.kubectl, "--kubeconfig", self.kubeconfig, *arguments]

    def _is_ready(self) -> bool:
        ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return try_run(self._kubectl("get", "node", NODE_NAME, "-o", ready)).stdout.strip() == "True"

    def _end_pods(self) -> None:
        """Delete the pods while the kubelet runs, which removes their networks and mounts."""
        force = ["--all-namespaces", "--all", "--force", "--grace-period=0", f"--timeout={PODS_END_WITHIN_S}s"]
        for kinds in ("deployments,statefulsets,jobs", "pods"):
            try_run(self._kubectl("delete", kinds, *force), within_s=PODS_END_WITHIN_S + 30)


def proxy_has_rules() -> bool:
    """Whether the proxy has written its rules. The first service is the one of the API server."""
    return "default/kubernetes" in try_run(["iptables-save", "-t", "nat"]).stdout


@contextmanager
def hold_node_lock(say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock by which only one node runs on a machine."""
    lock = node_folder().with_name("node.lock")
    with hold_lock(lock, when_waiting=lambda: say("another node runs on this machine: waiting")):
        yield


def clean_up(folder: Path) -> None:
    """End and remove everything of a node in this folder from the machine. Does nothing if there is none."""
    if not folder.exists():
        return
    state = folder / DAEMONS_FILE
    entries = json.loads(state.read_text()) if state.exists() else []
    daemons = [daemon_of(entry) for entry in entries]
    containerd = Containerd(folder, folder / "cni")
    for daemon in reversed(daemons):
        if daemon.name == "containerd":
            containerd.remove_containers()
        end(daemon, within_s=END_WITHIN_S)
    kill_containers(folder)
    end_shims(containerd.socket)
    try_run([go_program("kube-proxy"), "--cleanup"])
    network.remove_bridge()
    for mounted in reversed(mounts_below(folder)):
        try_run(["umount", "--lazy", mounted])
    traces.restore(folder)
    shutil.rmtree(folder, ignore_errors=True)


def mounts_below(folder: Path) -> list[str]:
    """The mount points below this folder, in the order in which they were mounted."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(folder)]


def kubelet_configuration(folder: Path, containerd_socket: Path, client_authority: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.NODE_ADDRESS,
        "healthzPort": 0,
        # It runs as root, so it authorizes the API server only, even if others reach its port.
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(client_authority)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [network.NODE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "podLogsDir": str(folder / "pod-logs"),
        "makeIPTablesUtilChains": False,
        "syncFrequency": "5s",  # the interval at which mounted Secrets are updated
    }


def corefile(kubeconfig: Path) -> str:
    """The configuration of CoreDNS. It resolves names of the cluster only."""
    return f"""{CLUSTER_DOMAIN}:53 {{
    bind {network.NODE_ADDRESS}
    errors
    kubernetes {CLUSTER_DOMAIN} {{
        kubeconfig {kubeconfig}
    }}
}}
"""
