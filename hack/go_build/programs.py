"""The Go programs that tests and tools need, each built from pinned sources when it is first used.

Those of Kubernetes come from the control plane's module; every other one has a module of its own in hack/programs/.
"""

from pathlib import Path

from hack.control_plane.pins import MORE_PROGRAMS, program_build
from hack.errors import BuildFailed
from hack.go_build.compile import Build, ensure_built, module_checksum
from hack.processes.environment import our_cache
from hack.repository import ROOT

MODULES = ROOT / "hack" / "programs"
TAGS = {"promtool": "remove_all_sd", "prometheus": "remove_all_sd"}
"""Go's build tags of a program: Prometheus without the clients of twenty clouds, in which it would find its targets."""


def go_program(name: str) -> Path:
    """The program's path: `helm3`, `kubelet`, or another folder of hack/programs. Raises BuildFailed."""
    build = program_build(name) if name in MORE_PROGRAMS else module_build(MODULES / name)
    ensure_built(build)
    return build.program(name)


def module_build(folder: Path) -> Build:
    """A module with a main package of its own, or one whose go.mod pins a published program as its only tool."""
    if not (folder / "go.mod").exists():
        raise BuildFailed(f"{folder} holds no go.mod: programs are {', '.join(known_programs())}")
    ours, tags = (folder / "main.go").exists(), TAGS.get(folder.name, "")
    return Build(
        what=folder.name,
        module_folder=folder,
        packages=(".",) if ours else ("tool",),
        folder=our_cache() / "programs" / f"{folder.name}-{module_checksum(folder, tags)}",
        named={made_name(folder): folder.name},
        takes="up to 3 minutes",
        tags=tags,
    )


def made_name(folder: Path) -> str:
    """The name that `go build` gives the program: the last part of its package's path that is not a major version."""
    lines = (folder / "go.mod").read_text().splitlines()
    keyword = "module" if (folder / "main.go").exists() else "tool"
    package = next(line.split()[1] for line in lines if line.startswith(f"{keyword} "))
    parts = [part for part in package.split("/") if not (part.startswith("v") and part[1:].isdigit())]
    return parts[-1]


def known_programs() -> list[str]:
    return sorted([*MORE_PROGRAMS, *(path.parent.name for path in MODULES.glob("*/go.mod"))])
