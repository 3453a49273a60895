"""Whether this machine can be a node, and Debian's packages for it where they are missing. Called before a node starts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hack.environment import program_environment
from hack.errors import StartFailed

CNI_PLUGINS = Path("/usr/lib/cni")
# A program that shows that the package is there → Debian's name of the package.
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


def why_no_node(*, platform: str = sys.platform, user: int | None = None, has_apt: bool | None = None) -> str | None:
    """Why this machine can't be a node, in a few words; None: it can."""
    if platform != "linux":
        return f"a node needs Linux, this is {platform}"
    if (os.geteuid() if user is None else user) != 0:
        return "a node needs root"
    missing = missing_packages()
    if missing and not (shutil.which("apt-get") is not None if has_apt is None else has_apt):
        return f"a node needs {', '.join(missing)}, and there is no apt-get to install them"
    return None


def missing_packages() -> list[str]:
    return [package for program, package in PACKAGES.items() if find(program) is None]


def find(program: str) -> str | None:
    """Also where only root looks: a login shell's PATH may lack the sbin folders."""
    return shutil.which(program, path=f"{os.defpath}:{program_environment().get('PATH', '')}:{SBIN}")


def install_packages(say: Callable[[str], None]) -> None:
    """Install what is missing. Raises StartFailed with apt-get's own words."""
    missing = missing_packages()
    if not missing:
        return
    say(f"installing Debian's packages for a node: {', '.join(missing)}")
    environment = program_environment() | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "--quiet"], install):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN_S
        )
        if done.returncode != 0:
            raise StartFailed(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
