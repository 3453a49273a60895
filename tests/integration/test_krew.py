"""What `make krew` writes: krew accepts the manifest and installs the archive, and the program needs uv or Python alone."""

import hashlib
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from hack.processes.environment import cache_home, program_environment
from hack.processes.run import run_to_end
from hack.release import krew
from hack.release.versions import declared_versions
from hack.repository import ROOT

VERSION = declared_versions()["pyproject.toml's version"]
DOWNLOADS = {"UV_CACHE_DIR": str(cache_home() / "uv"), "PIP_CACHE_DIR": str(cache_home() / "pip")}
"""Where both keep what they have downloaded, so that a second run downloads nothing."""
(UV,) = (ROOT / ".cache").glob("uv-*/bin/uv")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The archive and the manifest."""
    return krew.write(UV, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(
    krew_programs: tuple[Path, Path], written: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The program, where krew puts it for kubectl."""
    root, (archive, manifest) = tmp_path_factory.mktemp("krew"), written
    command: list[str | Path] = [krew_programs[0], "install", f"--manifest={manifest}", f"--archive={archive}"]
    done = run_to_end(command, within_s=60, settings={"KREW_ROOT": str(root)})
    assert done.returncode == 0, done.stderr
    return root / "bin" / "kubectl-embeddings"


def test_krews_own_check_accepts_the_manifest(krew_programs: tuple[Path, Path], written: tuple[Path, Path]) -> None:
    done = run_to_end([krew_programs[1], "-manifest", written[1], "-skip-install"], within_s=60)
    assert done.returncode == 0, done.stderr


def test_the_manifest_has_the_checksum_of_the_archive_and_its_version(written: tuple[Path, Path]) -> None:
    archive, manifest = written
    spec = yaml.safe_load(manifest.read_text())["spec"]
    assert spec["version"] == f"v{VERSION}"
    (platform,) = spec["platforms"]
    assert platform["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert platform["uri"].endswith(f"/v{VERSION}/{archive.name}")
    page = (ROOT / "docs" / "kubectl.md").read_text()
    assert {f"--archive=dist/{archive.name}", f"{platform['uri'].rpartition('/')[0]}/{manifest.name}"} <= set(
        re.findall(r"--archive=\S+|https://github\S+yaml", page)
    )


def test_the_same_checkout_gives_the_same_archive(written: tuple[Path, Path], tmp_path: Path) -> None:
    assert krew.write(UV, tmp_path)[0].read_bytes() == written[0].read_bytes()


def folder_with(folder: Path, *programs: str | Path) -> str:
    """A PATH with just these programs, and the few that the script itself calls."""
    folder.mkdir()
    for program in (*programs, "sh", "dirname", "readlink", "mkdir", "mktemp", "mv", "rm"):
        found = shutil.which(program)
        assert found is not None
        (folder / Path(program).name).symlink_to(found)
    return str(folder)


@pytest.mark.timeout(550)
@pytest.mark.parametrize("installer", ["uv", "python3"])
def test_the_installed_program_makes_its_environment_once(installed: Path, tmp_path: Path, installer: str) -> None:
    (tmp_path / "python3").symlink_to(Path(sys.executable).resolve())
    programs = {tmp_path / "python3", UV if installer == "uv" else tmp_path / "python3"}
    cache, path = tmp_path / "cache", folder_with(tmp_path / "programs", *programs)
    settings = DOWNLOADS | {"XDG_CACHE_HOME": str(cache), "PATH": path}
    first, second = (run_to_end([installed, "--version"], within_s=250, settings=settings) for _ in range(2))
    assert (first.returncode, first.stdout) == (0, f"kubectl-embeddings {VERSION}\n"), first.stderr
    assert first.stderr.startswith("kubectl embeddings: installing its dependencies, once, into ")
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert [kept.name.startswith(VERSION) for kept in (cache / "kubectl-embeddings").iterdir()] == [True]


def test_without_python_it_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    settings = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": folder_with(tmp_path / "programs")}
    done = run_to_end([installed, "--version"], within_s=60, settings=program_environment() | settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "kubectl embeddings: it needs Python 3.11 or newer with venv, or uv: install one of them"
    )
    assert list((tmp_path / "cache" / "kubectl-embeddings").iterdir()) == []
