"""Starts programs that keep running, waits until they are ready, and ends them by their own process id.

Called for every such program: control plane, node, embedded PostgreSQL, provider server, operator. Each logs to a file.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.errors import DaemonDied, StartFailed
from hack.processes.environment import program_environment

POLL_EVERY_S = 0.02
KILLED_WITHIN_S = 30.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Children of this process, by id and start time: an ended one stays a zombie, which looks alive, until it is reaped.
_children: dict[tuple[int, str], subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Daemon:
    """A started program. `started` distinguishes it from a later process with the same id."""

    name: str
    pid: int
    started: str
    log: Path


def daemon_of(entry: Mapping[str, Any]) -> Daemon:
    """The daemon whose fields were written as JSON."""
    return Daemon(entry["name"], entry["pid"], entry["started"], Path(entry["log"]))


def start_daemon(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    ends_with_parent: bool,
    death_signal: signal.Signals = signal.SIGTERM,
    user: int | None = None,
    group: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> Daemon:
    """Start `command` in a process session of its own, so that a Ctrl-C at the terminal does not reach it.

    With `ends_with_parent`, Linux sends `death_signal` when the thread that called this ends, for whatever reason; other
    systems leave the program running. `user` and `group` are ids to run as (root only). `settings` are variables that the
    program gets in addition to `program_environment`.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=program_environment() | dict(settings or {}),
            start_new_session=True,
            preexec_fn=_signal_at_parents_death(death_signal) if ends_with_parent else None,
            user=user,
            group=group,
            extra_groups=None if group is None else [],
        )
    daemon = Daemon(name, child.pid, _start_time(child.pid) or "", log)
    _children[daemon.pid, daemon.started] = child
    return daemon


def _signal_at_parents_death(number: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, because the child should do as little as possible
    parent = os.getpid()

    def in_the_child() -> None:
        prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os._exit(1)

    return in_the_child


def is_running(daemon: Daemon) -> bool:
    child = _children.get((daemon.pid, daemon.started))
    if child is not None:
        return child.poll() is None
    return bool(daemon.started) and _start_time(daemon.pid) == daemon.started


def _start_time(pid: int) -> str | None:
    """When the process started, in the unit of the operating system; None: it is not running."""
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
        return None if state in "ZX" else fields[18]
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = shown.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def wait_for_exit(daemon: Daemon, *, within_s: float) -> int | None:
    """The exit code of a program that this process has started; None: it still runs after this time."""
    try:
        return _children[daemon.pid, daemon.started].wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        return None


def wait_until_ready(daemon: Daemon, is_ready: Callable[[], bool], *, within_s: float) -> None:
    """Return when `is_ready`. Raises DaemonDied when the program ends first, StartFailed when time runs out."""
    deadline = time.monotonic() + within_s
    while True:
        if not is_running(daemon):
            tail = log_tail(daemon.log)
            raise DaemonDied(f"{daemon.name} ended while it started; the end of {daemon.log}:\n{tail}", tail=tail)
        if is_ready():
            return
        if time.monotonic() > deadline:
            raise StartFailed(
                f"{daemon.name} was not ready within {within_s:.0f} s; the end of {daemon.log}:\n{log_tail(daemon.log)}"
            )
        time.sleep(POLL_EVERY_S)


def end(daemon: Daemon, *, within_s: float, first: signal.Signals = signal.SIGTERM) -> None:
    """Send `first`, then SIGKILL if the program still runs after `within_s`. Does nothing if it has ended."""
    for number in (first, signal.SIGKILL):
        if not is_running(daemon):
            break
        try:
            os.kill(daemon.pid, number)
        except ProcessLookupError:
            break
        # Also a killed process takes its time on a busy machine, and the caller removes its files next.
        deadline = time.monotonic() + (max(within_s, KILLED_WITHIN_S) if number is signal.SIGKILL else within_s)
        while is_running(daemon) and time.monotonic() < deadline:
            time.sleep(POLL_EVERY_S)
    _children.pop((daemon.pid, daemon.started), None)


def whole_lines(log: Path) -> list[str]:
    """The lines of a log that is being written. The last one is left out while it is half written."""
    return log.read_text().rpartition("\n")[0].splitlines()


def log_tail(log: Path, *, lines: int = 15) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
