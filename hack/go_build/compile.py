"""Builds one set of Go programs from a pinned module, once, atomically, and with its progress shown.

Called for the control plane (hack.control_plane.build) and for every other program (hack.go_build.programs).
"""

import hashlib
import queue
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hack.errors import BuildFailed
from hack.go_build.progress import BuildProgress, progress_on_stderr
from hack.go_build.toolchain import Go, go_environment, suitable_go, version_tuple
from hack.processes.locked import hold_lock

LINES_SHOWN = 20
TICK_S = 1.0


@dataclass(frozen=True)
class Build:
    """A build of `packages` of the module in `module_folder`, into `folder`, under the names of `named`."""

    what: str  # in a sentence: "the control plane", "helm3"
    module_folder: Path
    packages: tuple[str, ...]
    folder: Path
    named: dict[str, str]  # the name that `go build` gives a program → its name here
    takes: str = "a few minutes"
    details: str = ""
    linker_flags: str = "-s -w"  # without symbols
    tags: str = ""  # Go's build tags

    def program(self, name: str) -> Path:
        return self.folder / name


def module_checksum(module_folder: Path, *more: str) -> str:
    """Eight hexadecimal digits of a hash over everything that the programs are built from."""
    parts = [
        path.read_text() for path in sorted(module_folder.glob("*")) if path.name in ("go.mod", "go.sum", "main.go")
    ]
    return hashlib.sha256("".join([*parts, *more]).encode()).hexdigest()[:8]


def oldest_go(module_folder: Path) -> tuple[int, ...]:
    """The oldest Go that builds the module, by its go.mod."""
    found = re.findall(r"^go (\S+)", (module_folder / "go.mod").read_text(), re.MULTILINE)
    return version_tuple(found[0])


def ensure_built(build: Build, progress: BuildProgress | None = None) -> None:
    """Build into the build's folder, unless the folder exists. Raises BuildFailed with Go's last lines.

    Of two calls at once the second waits for the first. Without `progress`, the progress is shown on stderr.
    """
    if build.folder.exists():
        return
    shown = progress or progress_on_stderr()
    waiting = f"another build of {build.what} is under way: waiting for it"
    with hold_lock(build.folder.with_name(f"{build.folder.name}.lock"), when_waiting=lambda: shown.say(waiting)):
        if not build.folder.exists():
            _build(build, shown)


def _build(build: Build, progress: BuildProgress) -> None:
    unfinished = build.folder.with_name(f"{build.folder.name}.unfinished")  # no other process uses it: the lock is held
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    doing = f"building {build.what}"
    try:
        go = suitable_go(oldest_go(build.module_folder), say=progress.say)
        progress.say(f"{doing}{build.details} with {go.origin}: this takes {build.takes}, once")
        with progress:
            total = _count_packages_to_compile(go, build, progress)
            compiled = 0
            with _running(build, go_command(go.program, "build", build, "-v", "-o", f"{unfinished}/")) as lines:
                for line in lines:
                    compiled += is_package_line(line)
                    progress.at(doing, min(compiled, total), total)
        for made, name in build.named.items():
            (unfinished / made).rename(unfinished / name)
        unfinished.replace(build.folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def go_command(program: Path, verb: str, build: Build, *rest: str) -> list[str]:
    """The same flags for listing and for building, because they decide what is in Go's cache already."""
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={build.linker_flags}"]
    if build.tags:
        flags.append(f"-tags={build.tags}")
    return [str(program), verb, *flags, *rest, *build.packages]


def _count_packages_to_compile(go: Go, build: Build, progress: BuildProgress) -> int:
    """The number of packages that are not in Go's cache. The first time, Go fetches the modules for that."""
    stale = "{{if .Stale}}{{.ImportPath}}{{end}}"
    fetched = listed = 0
    with _running(build, go_command(go.program, "list", build, "-deps", "-f", stale)) as lines:
        for line in lines:
            fetched += is_download_line(line)
            listed += is_package_line(line)
            progress.at("fetching the Go modules", fetched, None)
    return listed


def is_download_line(line: str) -> bool:
    return line.startswith("go: downloading ")


def is_package_line(line: str) -> bool:
    """Import paths have no spaces, and all other lines of Go have some."""
    return bool(line) and " " not in line


@contextmanager
def _running(build: Build, command: Sequence[str]) -> Iterator[Iterator[str]]:
    """The lines that Go prints, with an empty one each second. Raises BuildFailed if Go fails."""
    last: deque[str] = deque(maxlen=LINES_SHOWN)
    with subprocess.Popen(
        command,
        cwd=build.module_folder,
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
            f"{said}\n{build.what} could not be built: `{command[0]} {command[1]}` in {build.module_folder} ended with "
            f"{process.returncode}, and these were its last lines. Fix what they name (a network? a disk?) and repeat"
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
            yield ""  # linking takes half a minute without any output
            continue
        if line is None:
            return
        remember(line)
        yield line
