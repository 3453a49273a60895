"""The build of the control plane around Go, with a script in Go's place: once, whole or not at all, and never silent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hack.control_plane import build
from hack.control_plane.pins import pins, programs_build
from hack.errors import BuildFailed
from hack.go_build import compile as go_compile
from hack.go_build.compile import go_command
from hack.go_build.programs import MODULES, module_build
from hack.go_build.progress import Lines
from hack.go_build.toolchain import Go
from tests.support.deadline import wait_until

# It lists two packages, and builds them into the folder after -o when the file "go-on" is there.
STAND_IN = """#!/bin/sh
here=$(dirname "$0")
echo "$1" >> "$here/calls"
verb=$1
while [ $# -gt 1 ] && [ "$1" != -o ]; do shift; done
case $verb in
  list) echo "go: downloading k8s.io/api v0.36.3" >&2; echo first/package; echo second/package ;;
  build)
    echo first/package >&2
    until [ -e "$here/go-on" ]; do sleep 0.01; done
    if [ -e "$here/fail" ]; then echo "no space left on device" >&2; exit 1; fi
    echo second/package >&2
    for name in server kube-apiserver kubectl; do echo "$name" > "$2/$name"; done ;;
esac
"""


class StandIn:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "go"
        self.program.write_text(STAND_IN)
        self.program.chmod(0o755)

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().split() if file.exists() else []

    def go_on(self) -> None:
        (self.folder / "go-on").touch()

    def fail(self) -> None:
        (self.folder / "fail").touch()


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "go").mkdir()
    stand_in = StandIn(tmp_path / "go")
    monkeypatch.setattr(go_compile, "suitable_go", lambda oldest, say: Go(stand_in.program, "a script"))
    yield stand_in
    stand_in.go_on()


def test_built_programs_are_renamed(go: StandIn) -> None:
    go.go_on()
    built = build.binaries(Lines(lambda line: None))
    assert built.etcd.read_text() == "server\n"
    assert built.kubectl.read_text() == "kubectl\n"
    assert built.etcd.parent == programs_build(pins()).folder


def test_built_programs_are_not_built_again(go: StandIn) -> None:
    go.go_on()
    build.binaries(Lines(lambda line: None))
    build.binaries(Lines(lambda line: None))
    assert go.calls() == ["list", "build"]


def test_the_first_line_says_that_it_takes_minutes(go: StandIn) -> None:
    go.go_on()
    said: list[str] = []
    build.binaries(Lines(said.append))
    assert said == [
        f"building the control plane (Kubernetes {pins().kubernetes}, etcd {pins().etcd}) with a script: "
        "this takes 3 to 6 minutes, once"
    ]


def test_the_progress_is_shown(go: StandIn) -> None:
    go.go_on()
    said: list[str] = []
    build.binaries(Lines(said.append, every_s=0))
    assert any(line.startswith("fetching the Go modules: 1, ") for line in said)
    assert any(line.startswith("building the control plane: 1 of 2 packages, ") for line in said)
    assert any(line.startswith("building the control plane: 2 of 2 packages, ") for line in said)


def test_two_at_once_build_once(go: StandIn) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(build.binaries, Lines(lambda line: None))
        wait_until(lambda: "build" in go.calls(), within_s=60, because="the first has begun to build")
        second = threads.submit(build.binaries, Lines(said.append))
        wait_until(lambda: said, within_s=60, because="the second found the lock taken")
        go.go_on()
        assert first.result(timeout=60) == second.result(timeout=60)
    assert said == ["another build of the control plane is under way: waiting for it"]
    assert go.calls() == ["list", "build"]


def test_a_failed_build_shows_gos_last_lines_and_leaves_no_file(go: StandIn) -> None:
    go.fail()
    go.go_on()
    with pytest.raises(BuildFailed, match="no space left on device\nthe control plane could not be built"):
        build.binaries(Lines(lambda line: None))
    assert not [path for path in programs_build(pins()).folder.parent.iterdir() if path.suffix != ".lock"]


def test_only_a_program_with_build_tags_gives_them_to_go() -> None:
    tagged, plain = (go_command(Path("go"), "build", module_build(MODULES / name)) for name in ("promtool", "helm4"))
    assert "-tags=remove_all_sd" in tagged
    assert not [flag for flag in plain if flag.startswith("-tags")]
