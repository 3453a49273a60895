"""Runs kubectl for tests, always with a given kubeconfig and never with one from the environment."""

import subprocess
from pathlib import Path

from hack.processes.environment import program_environment

TIMEOUT_S = 30


def kubectl(
    program: Path, kubeconfig: Path, *arguments: str, manifest: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run kubectl with `manifest` as its standard input. A failure raises nothing: the caller checks the exit code."""
    return subprocess.run(
        [program, "--kubeconfig", kubeconfig, *arguments],
        env=program_environment(),
        input=manifest,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
