"""The command `hack/cluster`, as developers call it, and the choice of the cluster."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster_choice.choice import Cluster, cluster_for_tests
from hack.control_plane.pins import Binaries
from hack.control_plane.state import read_state
from hack.processes.daemons import is_running
from hack.processes.environment import program_environment
from hack.processes.run import run_to_end
from hack.repository import ROOT
from tests.support.deadline import wait_until
from tests.support.kubectl import kubectl

pytestmark = pytest.mark.timeout(900)  # some start a control plane twice

NO_ENGINE = "echo 'Cannot connect to the daemon at unix:///nowhere. Is it running?' >&2; exit 1"
ENGINE_THAT_PULLS_NOTHING = """
case "$1 $*" in
  -v*) echo "Docker version 29.0.1, build test" ;;
  info*ServerVersion*) echo 29.0.1 ;;
  info*) echo '{"CgroupDriver": "cgroupfs", "CgroupVersion": "2", "MemoryLimit": true, "PidsLimit": true, "CPUShares": true}' ;;
  ps*) ;;
  *) echo "Error response from daemon: no route to the registry" >&2; exit 1 ;;
esac
"""


def engines_on_path(folder: Path, *, docker: str = NO_ENGINE) -> str:
    """A PATH whose docker is this script, and whose podman has no engine, so that no test pulls a node image."""
    folder.mkdir(exist_ok=True)
    for name, script in {"docker": docker, "podman": NO_ENGINE}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{program_environment()['PATH']}"


@pytest.fixture(scope="session")
def no_engine(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH without a container engine."""
    return engines_on_path(tmp_path_factory.mktemp("engines"))


@pytest.fixture(autouse=True)
def _commands_find_no_engine(no_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", no_engine)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


def cluster_command(*arguments: str, given: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hack.cluster_choice", *arguments]
    return run_to_end(command, within_s=240, settings={"CLUSTER_KUBECONFIG": str(given or "")}, cwd=ROOT)


@pytest.fixture
def cluster_name(programs: Binaries) -> Iterator[str]:
    name = f"test-{secrets.token_hex(4)}"
    yield name
    cluster_command("down", "--name", name)
    (ROOT / ".run" / "clusters" / f"{name}.lock").unlink(missing_ok=True)


def test_the_commands_start_show_and_end_a_cluster(cluster_name: str, programs: Binaries) -> None:
    name = ["--name", cluster_name]
    before = cluster_command("kubeconfig", *name)
    assert (before.returncode, before.stdout) == (1, "")
    assert f"`hack/cluster up --name {cluster_name}` starts it" in before.stderr

    started = cluster_command("up", *name)
    assert started.returncode == 0, started.stderr
    said = started.stdout.splitlines()[0]
    assert "a control plane of our own" in said
    assert "because neither CLUSTER_KUBECONFIG nor KUBEBUILDER_ASSETS is set" in said
    assert (
        "no container engine answers for kind (docker: Cannot connect to the daemon at unix:///nowhere; podman:" in said
    )
    kubeconfig = Path(cluster_command("kubeconfig", *name).stdout.strip())
    assert kubectl(programs.kubectl, kubeconfig, "get", "--raw", "/readyz").stdout == "ok"
    assert cluster_command("status", *name).returncode == 0

    again = cluster_command("up", *name)
    assert "(it runs already)" in again.stdout
    assert str(kubeconfig) in again.stdout

    assert cluster_command("down", *name).returncode == 0
    assert cluster_command("status", *name).returncode == 1
    assert not kubeconfig.parent.exists()


def test_where_kind_does_not_start_its_error_is_shown_and_a_control_plane_is_used(
    cluster_name: str, kind_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real kind, and an engine that answers but can pull no node image."""
    monkeypatch.setenv("PATH", engines_on_path(tmp_path / "engines", docker=ENGINE_THAT_PULLS_NOTHING))
    monkeypatch.setenv("KIND_NODE_IMAGE", "kindest/node:v1.32.11")
    started = cluster_command("up", "--name", cluster_name)
    assert started.returncode == 0, started.stderr
    assert "kind creates a cluster with docker 29.0.1 (node image kindest/node:v1.32.11)" in started.stderr
    said = started.stdout.splitlines()[0]
    assert "a control plane of our own" in said
    assert "`kind create cluster` failed: failed to create cluster: failed to pull image" in said
    assert said.endswith("Error response from daemon: no route to the registry")
    assert cluster_command("status", "--name", cluster_name).returncode == 0


def test_given_programs_are_run_instead_of_built_ones(
    cluster_name: str, programs: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    for program in (programs.etcd, programs.kube_apiserver, programs.kubectl):
        (assets / program.name).symlink_to(program)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    monkeypatch.delenv("CLUSTER_KUBECONFIG", raising=False)
    why = f"of the programs in {assets}, because KUBEBUILDER_ASSETS is set"
    started = cluster_command("up", "--name", cluster_name)
    assert why in started.stdout, started.stderr
    assert f"kubectl: {assets}/kubectl" in started.stdout
    with cluster_for_tests(tmp_path / "tests") as chosen:
        assert chosen.origin.endswith(why)
        assert chosen.kubectl == assets / "kubectl"
        assert kubectl(chosen.kubectl, chosen.admin_kubeconfig, "get", "--raw", "/readyz").stdout == "ok"


def test_missing_programs_are_named_in_a_sentence(
    cluster_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    answer = cluster_command("up", "--name", cluster_name)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert f"KUBEBUILDER_ASSETS: {tmp_path} holds no program etcd and no kube-apiserver and no kubectl" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_interrupted_start_is_done_again(cluster_name: str) -> None:
    cluster_command("up", "--name", cluster_name)
    (ROOT / ".run" / "clusters" / cluster_name / "origin").unlink()
    assert "is broken, its start was interrupted" in cluster_command("status", "--name", cluster_name).stderr
    again = cluster_command("up", "--name", cluster_name)
    assert "its start was interrupted, so it is started again" in again.stderr
    assert cluster_command("status", "--name", cluster_name).returncode == 0


def test_tests_do_not_use_kind_and_say_why(programs: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUSTER_KUBECONFIG", raising=False)
    monkeypatch.setenv("PATH", engines_on_path(tmp_path / "engines", docker="echo 29.0.1"))
    with cluster_for_tests(tmp_path) as chosen:
        assert "a control plane of our own" in chosen.origin
        assert "its node image is about 1 GB" in chosen.origin


def test_a_cluster_that_lost_a_process_is_started_again(cluster_name: str) -> None:
    cluster_command("up", "--name", cluster_name)
    state = read_state(ROOT / ".run" / "clusters" / cluster_name)
    assert state is not None
    etcd = state.daemons[0]
    os.kill(etcd.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(etcd), within_s=30, because="it was killed")
    broken = cluster_command("status", "--name", cluster_name)
    assert broken.returncode == 1
    assert "is broken, etcd ended" in broken.stderr
    assert cluster_command("up", "--name", cluster_name).returncode == 0
    assert cluster_command("status", "--name", cluster_name).returncode == 0


def test_the_script_is_the_command() -> None:
    unknown = f"test-{secrets.token_hex(4)}"
    script = str(ROOT / "hack" / "cluster")
    answer = run_to_end(
        [script, "status", "--name", unknown], within_s=120, settings={"CLUSTER_KUBECONFIG": ""}, cwd=Path("/")
    )
    assert (answer.returncode, answer.stdout) == (1, "")
    assert f"cluster {unknown} does not run" in answer.stderr


def test_a_given_cluster_is_used_and_not_ended(cluster: Cluster, tmp_path: Path) -> None:
    for command in ("up", "status", "down"):
        answer = cluster_command(command, given=cluster.admin_kubeconfig)
        assert answer.returncode == 0, answer.stderr
        assert "the given cluster at https://" in answer.stdout
        assert "because CLUSTER_KUBECONFIG is set" in answer.stdout
    assert cluster_command("kubeconfig", given=cluster.admin_kubeconfig).stdout.strip() == str(cluster.admin_kubeconfig)
    assert kubectl(cluster.kubectl, cluster.admin_kubeconfig, "get", "--raw", "/readyz").stdout == "ok"


def test_tests_use_a_given_cluster_too(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER_KUBECONFIG", str(cluster.admin_kubeconfig))
    with cluster_for_tests(tmp_path / "unused") as chosen:
        assert chosen.admin_kubeconfig == cluster.admin_kubeconfig
        assert "because CLUSTER_KUBECONFIG is set" in chosen.origin
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("command", ["up", "down", "status", "kubeconfig"])
def test_a_missing_kubeconfig_is_named_in_a_sentence(command: str, tmp_path: Path) -> None:
    answer = cluster_command(command, given=tmp_path / "missing")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert f"CLUSTER_KUBECONFIG: {tmp_path / 'missing'} does not exist: set it to" in answer.stderr
    assert "Traceback" not in answer.stderr
