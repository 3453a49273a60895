"""Runs Helm, with a cluster or without one. Called by the demo on kind, and by every test of the chart."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.errors import ToolError
from hack.processes.run import run_to_end
from hack.repository import CHART


@dataclass(frozen=True)
class Helm:
    """One Helm, with its files in `home` instead of the user's folders. It uses the cluster of `kubeconfig`, or none."""

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def try_run(
        self, *arguments: str, values: Mapping[str, Any] | None = None, within_s: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Run it; the caller checks the exit code. `values` are the chart's, in addition to those among the arguments."""
        kinds = ("CACHE", "CONFIG", "DATA")
        homes = {f"HELM_{kind}_HOME": str(self.home / kind.lower()) for kind in kinds}
        reached = {"KUBECONFIG": str(self.kubeconfig or self.home / "none")}
        given = [] if values is None else ["--values", "-"]
        return run_to_end(
            [self.program, *arguments, *given],
            within_s=within_s,
            stdin=yaml.safe_dump(dict(values or {})),
            settings=homes | reached,
        )

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None, within_s: float = 120) -> str:
        """Returns its output. Raises ToolError with the errors of Helm."""
        done = self.try_run(*arguments, values=values, within_s=within_s)
        if done.returncode != 0:
            shown = (done.stderr or done.stdout).strip()
            raise ToolError(f"{self.program.name} {' '.join(arguments[:2])}: {shown}")
        return done.stdout

    def upgrade(self, release: str, *flags: str, namespace: str, timeout_s: int = 120) -> str:
        """Install this chart as a release, or upgrade it, and return when it is ready. `flags` are Helm's."""
        place = ["--install", "--namespace", namespace, "--create-namespace"]
        wait = ["--wait", f"--timeout={timeout_s}s"]
        return self.run("upgrade", release, str(CHART), *place, *wait, *flags, within_s=timeout_s + 60)
