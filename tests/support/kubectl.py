"""kubectl, as the tests call it: with a kubeconfig that is named, never with one from the environment."""

import subprocess
from pathlib import Path

from hack.processes.environment import program_environment

ANSWERS_WITHIN_S = 30


def kubectl(
    program: Path, kubeconfig: Path, *arguments: str, manifest: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it and return what it said; `manifest` is its standard input. Whether it worked is for the test to judge."""
    return subprocess.run(
        [program, "--kubeconfig", kubeconfig, *arguments],
        env=program_environment(),
        input=manifest,
        capture_output=True,
        text=True,
        check=False,
        timeout=ANSWERS_WITHIN_S,
    )
