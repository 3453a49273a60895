"""The machine that figures were measured on, and the commit. Called by __main__.py."""

import os
import platform
import re
import subprocess
from pathlib import Path

from hack.processes.run import run_to_end
from hack.repository import ROOT

MODEL_NAME = re.compile(r"^model name\s*: (.+)$", re.MULTILINE)


def machine() -> dict[str, str | int | float]:
    """As it is now, so before the measurements. `commit` ends with `-dirty` where files differ from it."""
    return {
        "cores": os.cpu_count() or 0,
        "model": model_name(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 1),
        "commit": commit(),
    }


def model_name() -> str:
    """Of the processor, as Linux names it; elsewhere its architecture."""
    info = Path("/proc/cpuinfo")
    found = MODEL_NAME.search(info.read_text()) if info.exists() else None
    return found[1] if found else platform.machine()


def commit() -> str:
    """Empty where this is no checkout."""
    try:
        done = run_to_end(["git", "describe", "--always", "--dirty", "--exclude=*"], within_s=10, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
