"""Builds the control plane's programs once, into the cache outside of the repository.

Called by everything that starts a control plane or needs kubectl. The first call takes minutes, a later one no time.
"""

from pathlib import Path

from hack.control_plane.pins import PROGRAMS, Binaries, pins, programs_build
from hack.go_build.compile import ensure_built
from hack.go_build.progress import BuildProgress


def binaries(progress: BuildProgress | None = None) -> Binaries:
    """The programs, built when the cache has none of these versions. Raises BuildFailed with Go's last lines."""
    build = programs_build(pins())
    ensure_built(build, progress)
    etcd, kube_apiserver, kubectl = (build.program(name) for name in PROGRAMS.values())
    return Binaries(etcd, kube_apiserver, kubectl, pins().kubernetes)


def kubectl_path() -> Path:
    """The kubectl of the control plane's version, for machines that have none."""
    return binaries().kubectl
