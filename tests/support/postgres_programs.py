"""pg_dump, pg_restore and psql, as an administrator uses them. Called by tests of backups and replication."""

import subprocess
from pathlib import Path

from hack.database.embedded_postgres import installed_programs
from hack.processes.environment import program_environment


def run_program(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [installed_programs() / name, *arguments],
        env=program_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def dump(url: str, file: Path, *options: str) -> Path:
    done = run_program("pg_dump", f"--dbname={url}", "--format=custom", f"--file={file}", *options)
    assert done.returncode == 0, done.stderr
    return file


def restore(url: str, file: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """The caller looks at the exit code: pg_restore goes on after errors, unless --exit-on-error."""
    return run_program("pg_restore", f"--dbname={url}", *options, str(file))
