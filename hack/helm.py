"""Helm, pinned, as the cluster's administrator in one namespace. Called by the end-to-end tests and by the demo on kind."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hack.environment import program_environment
from hack.errors import ToolError
from hack.go_programs import go_program

CHART = Path(__file__).parents[1] / "charts" / "embedding-operator"


@dataclass(frozen=True)
class Helm:
    kubeconfig: Path
    namespace: str
    version: str = "helm4"
    """`helm3` or `helm4`."""

    def try_run(self, *arguments: str, within_s: float = 120) -> "subprocess.CompletedProcess[str]":
        """Whatever comes of it. Its own files stay out of the user's."""
        place = ["--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]
        return subprocess.run(
            [str(go_program(self.version)), *arguments, *place],
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
        )

    def run(self, *arguments: str, within_s: float = 120) -> str:
        """Returns what it prints. Raises ToolError with Helm's own words."""
        done = self.try_run(*arguments, within_s=within_s)
        if done.returncode != 0:
            raise ToolError(f"{self.version} {' '.join(arguments[:2])}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def upgrade(self, release: str, *values: str, timeout_s: int = 120) -> str:
        """Install the release, or upgrade it, and return when it is ready. `values` are Helm's own flags."""
        flags = ["--install", "--create-namespace", "--wait", f"--timeout={timeout_s}s", *values]
        return self.run("upgrade", release, str(CHART), *flags, within_s=timeout_s + 60)
