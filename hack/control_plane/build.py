"""Builds the control plane's programs once, into the cache outside of the repository.

Called by whoever starts a control plane or needs kubectl. The first call takes minutes, each later one nothing.
"""

import queue
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hack.control_plane.go_toolchain import Go, go_environment, suitable_go
from hack.control_plane.pins import (
    MODULE_FOLDER,
    PROGRAMS,
    Binaries,
    Pins,
    binaries_in,
    linker_flags,
    pins,
    programs_folder,
)
from hack.control_plane.progress import BuildProgress, progress_on_stderr
from hack.errors import BuildFailed
from hack.locked import locked

LINES_SHOWN = 20
TICK_S = 1.0


def binaries(progress: BuildProgress | None = None) -> Binaries:
    """The programs, built when the cache has none of these versions. Raises BuildFailed with Go's last lines.

    Two calls at once build once: the second waits for the first. `progress` is told on stderr where none is given.
    """
    pinned = pins()
    folder = programs_folder(pinned)
    if not folder.exists():
        shown = progress or progress_on_stderr()
        waiting = "another build of the control plane is under way: waiting for it"
        with locked(folder.with_name(f"{folder.name}.lock"), when_waiting=lambda: shown.say(waiting)):
            if not folder.exists():
                _build_into(folder, pinned, shown)
    return binaries_in(folder, pinned.kubernetes)


def kubectl_path() -> Path:
    """The kubectl of the control plane's version: a fresh machine has none of its own."""
    return binaries().kubectl


def _build_into(folder: Path, pinned: Pins, progress: BuildProgress) -> None:
    half_made = folder.with_name(f"{folder.name}.unfinished")  # nobody else's: the lock is ours
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir()
    try:
        go = suitable_go(pinned.go, say=progress.say)
        progress.say(
            f"building the control plane (Kubernetes {pinned.kubernetes}, etcd {pinned.etcd}) with {go.origin}: "
            "this takes 3 to 6 minutes, once"
        )
        with progress:
            total = _count_packages_to_compile(go, pinned, progress)
            compile_all = go_command(go.program, "build", pinned, "-v", "-o", f"{half_made}/", "tool")
            compiled = 0
            with _running(compile_all) as lines:
                for line in lines:
                    compiled += is_package_line(line)
                    progress.at("building the control plane", min(compiled, total), total)
        for made, name in PROGRAMS.items():
            (half_made / made).rename(half_made / name)
        half_made.replace(folder)
    finally:
        shutil.rmtree(half_made, ignore_errors=True)


def go_command(program: Path, verb: str, pinned: Pins, *rest: str) -> list[str]:
    """The same flags for listing and for building: they decide what Go's own cache holds already."""
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={linker_flags(pinned.kubernetes)}"]
    return [str(program), verb, *flags, *rest]


def _count_packages_to_compile(go: Go, pinned: Pins, progress: BuildProgress) -> int:
    """Ask Go what is not in its cache yet. The first time it fetches the modules for that, and says so line by line."""
    stale = "{{if .Stale}}{{.ImportPath}}{{end}}"
    fetched = listed = 0
    with _running(go_command(go.program, "list", pinned, "-deps", "-f", stale, "tool")) as lines:
        for line in lines:
            fetched += is_download_line(line)
            listed += is_package_line(line)
            progress.at("fetching the Go modules", fetched, None)
    return listed


def is_download_line(line: str) -> bool:
    return line.startswith("go: downloading ")


def is_package_line(line: str) -> bool:
    """Import paths hold no spaces, and everything else that Go says does."""
    return bool(line) and " " not in line


@contextmanager
def _running(command: Sequence[str]) -> Iterator[Iterator[str]]:
    """Go's lines as they come, with an empty one now and then. Raises BuildFailed when Go fails in the end."""
    last: deque[str] = deque(maxlen=LINES_SHOWN)
    with subprocess.Popen(
        command,
        cwd=MODULE_FOLDER,
        env=go_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield _lines_and_ticks(process, remember=last.append)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        said = "\n".join(line for line in last if not is_download_line(line))
        raise BuildFailed(
            f"{said}\nthe control plane could not be built: `{command[0]} {command[1]}` in {MODULE_FOLDER} ended with "
            f"{process.returncode}, and these were its last lines; mend what they name (a network? a disk?), and repeat"
        )


def _lines_and_ticks(process: subprocess.Popen[str], *, remember: Callable[[str], None]) -> Iterator[str]:
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            arrived.put(line.rstrip("\n"))
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=TICK_S)
        except queue.Empty:
            yield ""  # linking takes half a minute without a word
            continue
        if line is None:
            return
        remember(line)
        yield line
