"""Decides whether this machine can be a node, and installs missing Debian packages. Called before a node starts."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hack.errors import StartFailed
from hack.processes.environment import program_environment
from hack.processes.run import run_to_end

CNI_PLUGINS = Path("/usr/lib/cni")
# A program that is there if its package is installed → Debian's name of the package.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "debootstrap": "debootstrap",
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
}
SBIN = "/usr/sbin:/sbin"
INSTALL_WITHIN_S = 600.0
CAPABILITIES = {12: "CAP_NET_ADMIN", 18: "CAP_SYS_CHROOT", 21: "CAP_SYS_ADMIN"}  # linux/capability.h
# The configuration files of a kubelet that was not set up here.
OTHER_NODES = (Path("/etc/kubernetes/kubelet.conf"), Path("/var/lib/kubelet/config.yaml"), Path("/etc/rancher/k3s"))


@dataclass(frozen=True)
class Machine:
    """The facts that decide whether a machine can be a node."""

    platform: str
    user: int
    capabilities: int
    missing_packages: tuple[str, ...]
    has_apt: bool
    other_node: str | None

    def why_no_node(self) -> str | None:
        """Why it can't be a node, in a few words; None: it can."""
        if self.platform != "linux":
            return f"a node needs Linux, this is {self.platform}"
        if self.user != 0:
            return "a node needs root"
        lacking = [name for bit, name in CAPABILITIES.items() if not self.capabilities >> bit & 1]
        if lacking:
            return f"a node needs {', '.join(lacking)}, which root does not have here"
        if self.other_node is not None:
            return f"this machine is a Kubernetes node already ({self.other_node}), and this one would disturb it"
        if self.missing_packages and not self.has_apt:
            return f"a node needs {', '.join(self.missing_packages)}, and there is no apt-get to install them"
        return None


def this_machine() -> Machine:
    found = next((str(path) for path in OTHER_NODES if path.exists()), None)
    return Machine(
        sys.platform,
        os.geteuid(),
        _capabilities(),
        tuple(missing_packages()),
        shutil.which("apt-get") is not None,
        found,
    )


def _capabilities() -> int:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def missing_packages() -> list[str]:
    return [package for program, package in PACKAGES.items() if find(program) is None]


def find(program: str) -> str | None:
    """The program's path, searched in the sbin folders too, which the PATH of a login shell may lack."""
    return shutil.which(program, path=f"{os.defpath}:{program_environment().get('PATH', '')}:{SBIN}")


def install_packages(say: Callable[[str], None]) -> None:
    """Install the missing packages. Raises StartFailed with the errors of apt-get."""
    missing = missing_packages()
    if not missing:
        return
    say(f"installing Debian's packages for a node: {', '.join(missing)}")
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "--quiet"], install):
        done = run_to_end(command, within_s=INSTALL_WITHIN_S, settings={"DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode != 0:
            raise StartFailed(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
