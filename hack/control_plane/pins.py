"""Which programs make the control plane, in which versions, and in which folder of the cache they are kept.

Read from go.mod and go.sum beside this file, so that versions are pinned in one place. Called by the build.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from hack.environment import cache_home

MODULE_FOLDER = Path(__file__).parent
# What `go build` names a program, and what it is called here: etcd's main package lies in a folder named "server".
PROGRAMS = {"server": "etcd", "kube-apiserver": "kube-apiserver", "kubectl": "kubectl"}


@dataclass(frozen=True)
class Pins:
    kubernetes: str  # such as "1.36.3"
    etcd: str
    go: tuple[int, ...]  # the oldest Go that builds it, such as (1, 26, 0)
    checksum: str  # changes with anything that changes the programs


@dataclass(frozen=True)
class Binaries:
    etcd: Path
    kube_apiserver: Path
    kubectl: Path
    kubernetes_version: str


def pins() -> Pins:
    return pins_of((MODULE_FOLDER / "go.mod").read_text(), (MODULE_FOLDER / "go.sum").read_text())


def pins_of(go_mod: str, go_sum: str) -> Pins:
    kubernetes = _only_match(r"^\s*k8s\.io/kubernetes v(\S+)", go_mod)
    etcd = _only_match(r"^\s*go\.etcd\.io/etcd/server/v3 v(\S+)", go_mod)
    go = _only_match(r"^go (\S+)", go_mod)
    built_from = go_mod + go_sum + linker_flags(kubernetes)
    return Pins(kubernetes, etcd, version_tuple(go), hashlib.sha256(built_from.encode()).hexdigest()[:8])


def linker_flags(kubernetes: str) -> str:
    """Without symbols, and with the version that clients ask for (v0.0.0 otherwise)."""
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


def version_tuple(version: str) -> tuple[int, ...]:
    """The numbers at the front: "1.26.3" → (1, 26, 3), "1.27rc1" → (1, 27)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def our_cache() -> Path:
    return cache_home() / "embedding-operator"


def programs_folder(pinned: Pins) -> Path:
    return our_cache() / "control-plane" / f"{pinned.kubernetes}-{pinned.checksum}"


def binaries_in(folder: Path, kubernetes: str) -> Binaries:
    return Binaries(folder / "etcd", folder / "kube-apiserver", folder / "kubectl", kubernetes)


def _only_match(pattern: str, text: str) -> str:
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) != 1:
        raise ValueError(f"go.mod should have one line like {pattern!r}, it has {len(found)}")
    return str(found[0])
