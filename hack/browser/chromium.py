"""Fetches a headless Chromium into the cache, from npm packages that package-lock.json pins.

Called by the tests of pages and by what draws pictures for the documents; playwright drives it. The packages bring the browser's
libraries and fonts, so nothing is installed and every machine draws the same picture.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.errors import StartFailed
from hack.processes.environment import our_cache, program_environment
from hack.processes.locked import hold_lock
from hack.processes.run import run_to_end

HERE = Path(__file__).parent
PINS = ("package.json", "package-lock.json", "unpack.mjs", "fonts.conf")
FETCH_WITHIN_S = 300.0
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@dataclass(frozen=True)
class Browser:
    program: Path
    settings: Mapping[str, str]
    """Variables of its environment: where its libraries and fonts are, and its language."""

    @property
    def launch_options(self) -> dict[str, Any]:
        """For playwright's `chromium.launch`. The sandbox is off: it does not start as root, and only our own pages are shown."""
        return {
            "executable_path": self.program,
            "args": list(FLAGS),
            "chromium_sandbox": False,
            "env": program_environment() | dict(self.settings),
        }


def can_be_had() -> bool:
    """Whether the packages hold a browser for this machine, and there is npm to fetch them."""
    fits = sys.platform == "linux" and platform.machine() == "x86_64"
    return fits and shutil.which("npm") is not None and shutil.which("node") is not None


def browser() -> Browser:
    """The browser, which is fetched when it is first used (70 MB). Raises StartFailed."""
    folder = our_cache() / f"browser-{_checksum()}"
    if not folder.exists():
        with hold_lock(folder.with_name("browser.lock")):
            if not folder.exists():
                _fetch(folder)
    return Browser(
        folder / "chromium",
        {
            "LD_LIBRARY_PATH": f"{folder / 'lib'}",
            "FONTCONFIG_FILE": f"{folder / 'fonts.conf'}",
            # In the locale POSIX, the browser's language would be one that JavaScript does not know.
            "LC_ALL": "en_US.UTF-8",
        },
    )


def _checksum() -> str:
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in PINS)).hexdigest()[:16]


def _fetch(folder: Path) -> None:
    unfinished = folder.with_name("browser.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in PINS:
        shutil.copy(HERE / name, unfinished)
    _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], unfinished)
    _run(["node", "unpack.mjs"], unfinished)
    for archive in unfinished.glob("*.tar"):
        shutil.unpack_archive(archive, unfinished, filter="data")
        archive.unlink()
    # The fonts' archive has a fonts.conf of its own, which names the folders of another machine.
    shutil.copy(HERE / "fonts.conf", unfinished)
    shutil.rmtree(unfinished / "node_modules" / "@sparticuz")
    (unfinished / "chromium").chmod(0o755)
    unfinished.replace(folder)


def _run(command: list[str], folder: Path) -> None:
    """Raises StartFailed."""
    try:
        done = run_to_end(command, within_s=FETCH_WITHIN_S, cwd=folder)
    except subprocess.TimeoutExpired as exc:
        raise StartFailed(f"`{' '.join(command)}` took longer than {FETCH_WITHIN_S:.0f} s: check the network") from exc
    if done.returncode != 0:
        end = " ".join(done.stderr.split())[-300:]
        raise StartFailed(f"`{' '.join(command)}` ended with {done.returncode} ({end}): check the network and npm")
