"""On which machine something was measured. Called by the commands that measure."""

import os
from pathlib import Path


def machine() -> str:
    """For people: cores, model of the processor, and the load before the measurement."""
    return f"{os.cpu_count()} cores ({processor(Path('/proc/cpuinfo'))}), load {os.getloadavg()[0]:.1f}"


def processor(cpuinfo: Path) -> str:
    """The model's name, as Linux has it."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
