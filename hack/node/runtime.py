"""Runs containerd for the node: its configuration, its images and its containers. Called by the node."""

import contextlib
import os
import signal
from pathlib import Path

from hack.node.commands import run, try_run
from hack.node.images import PAUSE_IMAGE
from hack.node.machine import CNI_PLUGINS, find
from hack.processes.daemons import Daemon, start_daemon, wait_until_ready

READY_WITHIN_S = 60.0
IMPORT_WITHIN_S = 300.0


class Containerd:
    """A containerd with its data in `folder`. Another one on this machine is not affected."""

    def __init__(self, folder: Path, cni: Path) -> None:
        self.folder = folder
        self.socket = folder / "containerd.sock"
        self._cni = cni

    def start(self) -> Daemon:
        configuration = self.folder / "containerd.toml"
        configuration.write_text(configuration_text(self.folder, self.socket, self._cni))
        daemon = start_daemon(
            "containerd",
            [str(find("containerd")), "--config", configuration],
            log=self.folder / "containerd.log",
            ends_with_parent=True,
        )
        wait_until_ready(daemon, lambda: self._ctr_answers(), within_s=READY_WITHIN_S)
        return daemon

    def import_image(self, archive: Path) -> None:
        """Import the image of a docker-archive, under its name in the archive."""
        run([*self._ctr(), "images", "import", archive], within_s=IMPORT_WITHIN_S)

    def containers(self) -> list[str]:
        return try_run([*self._ctr(), "containers", "list", "--quiet"]).stdout.split()

    def remove_containers(self) -> None:
        """Kill and remove the containers that no kubelet has ended."""
        for container in self.containers():
            try_run([*self._ctr(), "tasks", "delete", "--force", container])
            try_run([*self._ctr(), "containers", "delete", container])

    def _ctr(self) -> list[str | Path]:
        return [str(find("ctr")), "--address", self.socket, "--namespace", "k8s.io"]

    def _ctr_answers(self) -> bool:
        return try_run([*self._ctr(), "version"]).returncode == 0


def kill_containers(folder: Path) -> None:
    """Kill the containers' processes by the ids that containerd recorded, where containerd itself has ended."""
    for note in folder.glob("containerd/state/io.containerd.runtime.v2.task/*/*/init.pid"):
        pid, container = note.read_text().strip(), note.parent.name
        with contextlib.suppress(OSError):  # the process has ended
            if container in Path(f"/proc/{pid}/cgroup").read_text():
                os.kill(int(pid), signal.SIGKILL)


def end_shims(socket: Path) -> None:
    """End containerd's shims, which outlive it. They are recognised by our socket in their command line."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # the process has ended
            continue
        if "containerd-shim" in command[0] and str(socket) in command:
            os.kill(int(process.name), signal.SIGKILL)


def configuration_text(folder: Path, socket: Path, cni: Path) -> str:
    return f"""version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE, runc may not lower the OOM score of a process.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{folder}/runc"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{cni}"
"""
