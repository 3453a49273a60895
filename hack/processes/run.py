"""Runs a program and waits for its end. Called by everything in `hack` and by the tests that run a program once."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.processes.environment import program_environment


def run_to_end(
    command: Sequence[str | Path],
    *,
    within_s: float,
    stdin: str | None = None,
    settings: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run it and return its exit code, output and errors; the caller checks the exit code.

    `settings` are variables in addition to `program_environment`. Without `stdin`, its standard input is empty.
    Raises subprocess.TimeoutExpired, after killing it.
    """
    return subprocess.run(
        [str(part) for part in command],
        env=program_environment() | dict(settings or {}),
        input=stdin or "",
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=within_s,
    )
