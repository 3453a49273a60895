"""kubectl, as the tests call it: with a kubeconfig that is named, never with one from the environment."""

import subprocess
from pathlib import Path

from hack.processes.run import run_to_end

ANSWERS_WITHIN_S = 30


def kubectl(
    program: Path, kubeconfig: Path, *arguments: str, manifest: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it and return what it said; `manifest` is its standard input. Whether it worked is for the test to judge."""
    return run_to_end([program, "--kubeconfig", kubeconfig, *arguments], within_s=ANSWERS_WITHIN_S, stdin=manifest)
