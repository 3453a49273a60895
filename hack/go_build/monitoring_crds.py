"""The CRDs of the Prometheus Operator, made from its Go types by controller-gen, as its own releases make them.

Called by tests, which let an API server validate what the chart renders. They are made once, into the cache: the module with the
finished ones needs the whole of Kubernetes, and that of the types only its API.
"""

import os
import shutil
from pathlib import Path

from hack.errors import BuildFailed
from hack.go_build.compile import module_checksum, oldest_go
from hack.go_build.programs import MODULES, go_program
from hack.go_build.toolchain import go_environment, suitable_go
from hack.processes.environment import our_cache
from hack.processes.locked import hold_lock
from hack.processes.run import run_to_end

MODULE = MODULES / "controller-gen"
TYPES = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
KINDS = ("podmonitors", "prometheusrules", "servicemonitors")
MADE_WITHIN_S = 300


def monitoring_crds() -> list[Path]:
    """A file for each of KINDS. Raises BuildFailed."""
    folder = our_cache() / "programs" / f"monitoring-crds-{module_checksum(MODULE)}"
    program = go_program("controller-gen")
    with hold_lock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            _make(program, folder)
    return [folder / f"monitoring.coreos.com_{kind}.yaml" for kind in KINDS]


def _make(program: Path, folder: Path) -> None:
    """controller-gen asks the Go on its PATH where the types are."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    go = suitable_go(oldest_go(MODULE), say=lambda line: None)
    settings = go_environment()
    settings["PATH"] = f"{go.program.parent}{os.pathsep}{settings['PATH']}"
    command: list[str | Path] = [program, "crd:crdVersions=v1", f"paths={TYPES}", f"output:crd:dir={unfinished}"]
    done = run_to_end(command, within_s=MADE_WITHIN_S, settings=settings, cwd=MODULE)
    if done.returncode != 0:
        raise BuildFailed(f"controller-gen made no CRDs of {TYPES}: {done.stderr.strip()}")
    unfinished.rename(folder)
