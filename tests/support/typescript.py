"""Type-checks TypeScript examples of a page, and calls their functions with Node.js. Called by the tests of docs/search.md.

The npm packages are pinned by tests/typescript/package-lock.json, and fetched into the cache when they are first needed.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hack.errors import StartFailed
from hack.processes.environment import our_cache
from hack.processes.locked import hold_lock
from hack.processes.run import run_to_end
from hack.repository import ROOT

FOLDER = ROOT / "tests" / "typescript"
PINS = ("package.json", "package-lock.json")
FETCH_WITHIN_S = 300.0
RUN_WITHIN_S = 60.0

Call = tuple[str, str, list[Any]]
"""A module of the page, without its ending; a function that it exports; the arguments."""


class TypeScript:
    """A folder with the examples of a page, and the packages that they import."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        """`files` are the examples, by the names that they have on the page."""
        self._folder = folder
        for path in FOLDER.iterdir():
            shutil.copy(path, folder)
        for name, content in files.items():
            (folder / name).write_text(content)
        packages = fetched_packages()
        (folder / "node_modules").symlink_to(packages)
        if (folder / "schema.prisma").exists():
            # The generator needs no engine, but the command would fetch one, which npm does not have. Any program will do.
            self._run("prisma", "generate", "--no-hints", settings={"PRISMA_SCHEMA_ENGINE_BINARY": sys.executable})

    def check_types(self) -> None:
        self._run("tsc", "--project", ".")

    def call(self, calls: Iterable[Call], *, settings: Mapping[str, str]) -> list[Any]:
        """What the functions return, called one after the other in one process."""
        output = self._run("tsx", "run.ts", json.dumps(list(calls)), settings=settings)
        results: list[Any] = json.loads(output.splitlines()[-1])
        return results

    def _run(self, program: str, *arguments: str, settings: Mapping[str, str] | None = None) -> str:
        command: list[str | Path] = [self._folder / "node_modules" / ".bin" / program, *arguments]
        done = run_to_end(command, within_s=RUN_WITHIN_S, settings=settings, cwd=self._folder)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout


def can_be_run() -> bool:
    """Whether there are Node.js and npm."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def fetched_packages() -> Path:
    """The folder node_modules of these pins. Raises StartFailed."""
    checksum = hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in PINS)).hexdigest()[:16]
    folder = our_cache() / f"typescript-{checksum}"
    with hold_lock(folder.with_name("typescript.lock")):
        if not folder.exists():
            _fetch(folder)
    return folder / "node_modules"


def _fetch(folder: Path) -> None:
    unfinished = folder.with_name("typescript.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in PINS:
        shutil.copy(FOLDER / name, unfinished)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = run_to_end(command, within_s=FETCH_WITHIN_S, cwd=unfinished)
    if done.returncode != 0:
        end = " ".join(done.stderr.split())[-300:]
        raise StartFailed(f"`{' '.join(command)}` ended with {done.returncode} ({end}): check the network and npm")
    unfinished.replace(folder)
