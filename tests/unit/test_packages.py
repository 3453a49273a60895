"""The folders operator/ and worker/ contain packages, and are not packages: the standard library has a module `operator`."""

import subprocess
import sys
from pathlib import Path

import pytest

from hack.processes.environment import program_environment
from hack.repository import ROOT


def test_python_imports_the_operator_module_of_the_standard_library_in_the_repositorys_root() -> None:
    code = "import operator; print(operator.itemgetter(1)('ab'), operator.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=program_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    value, file = done.stdout.split(maxsplit=1)
    assert value == "b"
    assert not Path(file.strip()).is_relative_to(ROOT / "operator")


@pytest.mark.parametrize(
    ("folder", "package"),
    [("operator", "embedding_operator"), ("plugin", "kubectl_embeddings"), ("worker", "embedding_worker")],
)
def test_a_folder_contains_only_its_package(folder: str, package: str) -> None:
    assert not list((ROOT / folder).glob("*.py"))
    assert [path.parent.name for path in (ROOT / folder).glob("*/__init__.py")] == [package]
