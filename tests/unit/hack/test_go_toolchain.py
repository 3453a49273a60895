"""Which Go builds the control plane."""

from pathlib import Path

import pytest

from hack.go_build import toolchain as go_toolchain
from hack.go_build.toolchain import is_new_enough, suitable_go

FROM_PYPI = Path("/from/pypi/go")


def put_go_on_path(version: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if version is not None:
        (folder / "go").write_text(f"#!/bin/sh\necho go{version}\n")
        (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(go_toolchain, "_from_pypi", lambda why, say: FROM_PYPI)


@pytest.mark.parametrize(
    ("version", "enough"),
    [("1.26.0", True), ("1.26.8", True), ("1.27rc1", True), ("1.25.9", False), ("devel", False), ("2.0", True)],
)
def test_a_go_is_new_enough_from_go_mods_version_on(version: str, enough: bool) -> None:
    assert is_new_enough(version, (1, 26, 0)) is enough


def test_the_machines_own_is_used_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_go_on_path("1.26.8", tmp_path, monkeypatch)
    go = suitable_go((1, 26, 0), say=print)
    assert (go.program, go.origin) == (tmp_path / "go", "Go 1.26.8 of this machine")


@pytest.mark.parametrize(
    ("version", "why"), [("1.19.8", "this machine's Go is 1.19.8"), (None, "this machine has no Go")]
)
def test_otherwise_it_comes_from_pypi(
    version: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_go_on_path(version, tmp_path, monkeypatch)
    go = suitable_go((1, 26, 0), say=print)
    assert go.program == FROM_PYPI
    assert go.origin.endswith(f"from PyPI ({why})")


def test_no_other_toolchain_and_no_workspace_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    monkeypatch.setenv("GOTOOLCHAIN", "auto")
    environment = go_toolchain.go_environment()
    assert (environment["GOFLAGS"], environment["GOTOOLCHAIN"], environment["GOWORK"]) == ("", "local", "off")
