"""Registers slow_provider.py for the processes that a benchmark starts, by an entry point in a folder on their PYTHONPATH.

Called by the measurements that start `embedding-operator`.
"""

import shutil
from pathlib import Path

from embedding_worker.providers.provider import ENTRY_POINT_GROUP
from hack.benchmarks import slow_provider
from hack.processes import environment

MODULE = "benchmark_provider"


def install_provider(folder: Path) -> dict[str, str]:
    """Write the module and its entry point to a folder. Returns the environment variables of processes that find it there."""
    place = folder / "provider"
    metadata = place / f"{MODULE}-1.0.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(slow_provider.__file__, place / f"{MODULE}.py")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{slow_provider.NAME} = {MODULE}:PROVIDER\n")
    inherited = environment.python_path()
    return {"PYTHONPATH": ":".join([str(place), *([inherited] if inherited else [])])}
