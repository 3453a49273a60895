"""The programs of a control plane, their versions, and their folder in the cache. Called by the build.

The versions are read from the go.mod beside this file, the only place where they are pinned.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hack.go_build.compile import Build, module_checksum
from hack.processes.environment import our_cache

MODULE_FOLDER = Path(__file__).parent
ETCD, KUBERNETES = "go.etcd.io/etcd/server/v3", "k8s.io/kubernetes"
# The name that `go build` gives a program → its name here: etcd's main package is in a folder named "server".
PROGRAMS = {"server": "etcd", "kube-apiserver": "kube-apiserver", "kubectl": "kubectl"}
PACKAGES = (ETCD, f"{KUBERNETES}/cmd/kube-apiserver", f"{KUBERNETES}/cmd/kubectl")
# Programs that only some need (controllers, and a node), each built when it is first used.
MORE_PROGRAMS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")


@dataclass(frozen=True)
class Pins:
    kubernetes: str  # such as "1.36.3"
    etcd: str


@dataclass(frozen=True)
class Binaries:
    etcd: Path
    kube_apiserver: Path
    kubectl: Path
    kubernetes_version: str


def pins() -> Pins:
    return pins_of((MODULE_FOLDER / "go.mod").read_text())


def pins_of(go_mod: str) -> Pins:
    return Pins(
        kubernetes=_only_match(rf"^\s*{re.escape(KUBERNETES)} v(\S+)", go_mod),
        etcd=_only_match(rf"^\s*{re.escape(ETCD)} v(\S+)", go_mod),
    )


def programs_build(pinned: Pins) -> Build:
    """The API server, its etcd and kubectl."""
    flags = linker_flags(pinned.kubernetes)
    return Build(
        what="the control plane",
        details=f" (Kubernetes {pinned.kubernetes}, etcd {pinned.etcd})",
        module_folder=MODULE_FOLDER,
        packages=PACKAGES,
        folder=our_cache() / "control-plane" / f"{pinned.kubernetes}-{module_checksum(MODULE_FOLDER, flags)}",
        named=PROGRAMS,
        takes="3 to 6 minutes",
        linker_flags=flags,
    )


def program_build(name: str) -> Build:
    """One of MORE_PROGRAMS, of the same version."""
    version = pins().kubernetes
    flags = linker_flags(version)
    return Build(
        what=name,
        details=f" {version}",
        module_folder=MODULE_FOLDER,
        packages=(f"{KUBERNETES}/cmd/{name}",),
        folder=our_cache() / "programs" / f"{name}-{version}-{module_checksum(MODULE_FOLDER, flags)}",
        named={name: name},
        takes="up to 2 minutes",
        linker_flags=flags,
    )


def linker_flags(kubernetes: str) -> str:
    """Without symbols, and with the version that clients are shown (v0.0.0 otherwise)."""
    major, minor, *_ = kubernetes.split(".")
    stamped = {
        "gitVersion": f"v{kubernetes}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    return " ".join(
        ["-s", "-w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamped.items())]
    )


def _only_match(pattern: str, text: str) -> str:
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) != 1:
        raise ValueError(f"go.mod should have one line like {pattern!r}, it has {len(found)}")
    return str(found[0])
