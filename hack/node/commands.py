"""Runs a command of the machine and waits for its end. Called by everything that sets up a node or builds an image."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from hack.errors import ToolError
from hack.node.machine import SBIN
from hack.processes.environment import program_environment
from hack.processes.run import run_to_end

WITHIN_S = 120.0
LINES_SHOWN = 25


def run(command: Sequence[str | Path], *, within_s: float = WITHIN_S, stdin: str | None = None) -> str:
    """Returns its output. Raises ToolError with the last lines of its output and errors."""
    done = try_run(command, within_s=within_s, stdin=stdin)
    if done.returncode != 0:
        shown = "\n".join((done.stdout + done.stderr).strip().splitlines()[-LINES_SHOWN:])
        raise ToolError(f"`{' '.join(map(str, command))}` ended with {done.returncode}:\n{shown}")
    return done.stdout


def try_run(
    command: Sequence[str | Path], *, within_s: float = WITHIN_S, stdin: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """The same without an error: the caller checks the exit code."""
    path = f"{program_environment().get('PATH', '')}:{SBIN}"
    return run_to_end(command, within_s=within_s, stdin=stdin, settings={"PATH": path})
