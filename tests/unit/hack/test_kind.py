"""kind without an engine: its commands, its failures in few words, and that the user's kubeconfig is not changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hack.cluster_choice.kind import Engine, KindCluster, answering_engine, first_words
from hack.errors import BuildFailed, KindUnavailable, ToolError

PULL_FAILED = """Creating cluster "any" ...
 • Ensuring node image (kindest/node:v1.37.0) 🖼  ...
 ✗ Ensuring node image (kindest/node:v1.37.0) 🖼
ERROR: failed to create cluster: failed to pull image "kindest/node:v1.37.0": command "docker pull kindest/node:v1.37.0" \
failed with error: exit status 1

Command Output: Error response from daemon: Get "https://registry-1.docker.io/v2/": dial tcp: no route to host
"""
Programs = Callable[..., Path]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Shell scripts in place of programs: `programs(docker="echo 29.0")`. They are all that is on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}")
    for name in ("KIND_NODE_IMAGE", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)

    def made(**scripts: str) -> Path:
        for name, script in scripts.items():
            (folder / name).write_text(f'#!/bin/bash\nPATH="/usr/bin:/bin"\n{script}\n')
            (folder / name).chmod(0o755)
        return folder

    return made


@pytest.fixture
def calls(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A docker that answers, a kubectl and a kind that note how they are called. Gives the notes since it was asked last."""
    log = tmp_path / "calls"
    note = f'echo "$(basename "$0") $KIND_EXPERIMENTAL_PROVIDER $*" >> {log}'
    programs(docker=f"{note}\necho 29.0.1", kubectl=note, kind=note)
    monkeypatch.setattr("hack.cluster_choice.kind.go_program", lambda name: tmp_path / "bin" / name)

    def noted() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [" ".join(line.split()) for line in lines]

    return noted


def created(folder: Path) -> KindCluster:
    return KindCluster.create("any", folder, say=lambda _: None)


def test_an_engine_that_answers_is_named_with_its_version(programs: Programs) -> None:
    programs(docker="echo 29.0.1")
    assert answering_engine() == Engine("docker", "29.0.1")


def test_a_client_without_its_engine_is_skipped(programs: Programs) -> None:
    programs(docker="echo; echo 'Cannot connect to the daemon. Is it running?' >&2; exit 1", podman="echo 5.4.2")
    assert answering_engine() == Engine("podman", "5.4.2")


def test_if_no_engine_answers_the_reason_for_each_is_given(programs: Programs) -> None:
    programs(docker="echo; echo 'Cannot connect to the daemon at unix:///x. Is it running?' >&2; exit 1")
    with pytest.raises(KindUnavailable) as failure:
        answering_engine()
    assert str(failure.value) == (
        "no container engine answers for kind (docker: Cannot connect to the daemon at unix:///x; podman is not installed)"
    )


def test_a_client_that_hangs_is_skipped(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hack.cluster_choice.kind.ANSWERS_WITHIN_S", 0.2)
    programs(docker="exec sleep 60")
    with pytest.raises(KindUnavailable, match="docker did not answer within"):
        answering_engine()


def test_kind_gets_the_engine_the_image_and_a_kubeconfig_of_the_cluster(
    calls: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIND_NODE_IMAGE", "kindest/node:v1.32.11")
    cluster = created(tmp_path / "cluster")
    kubeconfig = tmp_path / "cluster" / "admin.kubeconfig"
    assert cluster.kubeconfig == kubeconfig
    assert calls() == [
        "docker info --format {{.ServerVersion}}",
        "kind docker get clusters",
        f"kind docker create cluster --name any --kubeconfig {kubeconfig} --image kindest/node:v1.32.11",
        f"kubectl --kubeconfig {kubeconfig} wait --for=condition=Ready nodes --all --timeout=180s",
    ]


def test_without_a_chosen_image_kind_uses_its_default(calls: Callable[[], list[str]], tmp_path: Path) -> None:
    created(tmp_path / "cluster")
    assert not [call for call in calls() if "--image" in call]


def test_a_cluster_is_found_by_its_folder_and_deleted_with_it(calls: Callable[[], list[str]], tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    assert KindCluster.found_in(folder) is None
    made = created(folder)
    found = KindCluster.found_in(folder)
    assert found == made
    calls()
    found.delete()
    assert calls() == [f"kind docker delete cluster --name any --kubeconfig {folder}/admin.kubeconfig"]
    assert not folder.exists()


def test_an_image_is_loaded_into_the_nodes_from_an_archive(calls: Callable[[], list[str]], tmp_path: Path) -> None:
    cluster = created(tmp_path / "cluster")
    calls()
    cluster.load_image("operator:dev")
    saved, loaded = calls()
    archive = saved.split()[3]
    assert saved == f"docker save --output {archive} operator:dev"
    assert loaded == f"kind docker load image-archive {archive} --name any"


def test_an_image_that_the_engine_does_not_have_is_named(calls: object, programs: Programs, tmp_path: Path) -> None:
    cluster = created(tmp_path / "cluster")
    programs(docker="echo 'Error response from daemon: reference does not exist' >&2; exit 1")
    with pytest.raises(
        ToolError, match="docker save operator:dev: Error response from daemon: reference does not exist"
    ):
        cluster.load_image("operator:dev")


def test_a_cluster_that_does_not_start_is_deleted(
    calls: Callable[[], list[str]], programs: Programs, tmp_path: Path
) -> None:
    folder = tmp_path / "cluster"
    programs(kind=f'echo "kind $1" >> {tmp_path}/calls; [ "$1" != create ] || {{ echo "ERROR: no" >&2; exit 1; }}')
    with pytest.raises(KindUnavailable, match="`kind create cluster` failed: no"):
        created(folder)
    assert calls()[1:] == ["kind get", "kind create", "kind delete"]
    assert not folder.exists()


def test_an_existing_cluster_of_the_same_name_is_not_deleted(
    calls: Callable[[], list[str]], programs: Programs, tmp_path: Path
) -> None:
    programs(kind=f'echo "kind $1" >> {tmp_path}/calls; echo other; echo any')
    with pytest.raises(KindUnavailable, match="docker has a kind cluster any already"):
        created(tmp_path / "cluster")
    assert calls()[1:] == ["kind get"]
    assert not (tmp_path / "cluster").exists()


def test_nodes_that_do_not_become_ready_are_a_failure_too(calls: object, programs: Programs, tmp_path: Path) -> None:
    programs(kubectl="echo 'error: timed out waiting for the condition on nodes/any-control-plane' >&2; exit 1")
    with pytest.raises(KindUnavailable, match="kind's nodes did not become ready: error: timed out"):
        created(tmp_path / "cluster")
    assert not (tmp_path / "cluster").exists()


def test_kind_is_unavailable_if_it_cannot_be_built(
    calls: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_built(_name: str) -> Path:
        raise BuildFailed("dial tcp: no route to host")

    monkeypatch.setattr("hack.cluster_choice.kind.go_program", not_built)
    with pytest.raises(KindUnavailable, match="kind could not be built: dial tcp: no route to host"):
        created(tmp_path / "cluster")


def test_the_record_of_a_cluster_that_cannot_be_deleted_is_kept(
    calls: object, programs: Programs, tmp_path: Path
) -> None:
    cluster = created(tmp_path / "cluster")
    programs(kind="echo 'ERROR: the engine is away' >&2; exit 1")
    with pytest.raises(KindUnavailable, match="`kind delete cluster` failed: the engine is away"):
        cluster.delete()
    assert json.loads((tmp_path / "cluster" / "kind.json").read_text()) == {"name": "any", "engine": "docker"}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            PULL_FAILED,
            'failed to create cluster: failed to pull image "kindest/node:v1.37.0": Error response from daemon: Get '
            '"https://registry-1.docker.io/v2/": dial tcp: no route to host',
        ),
        (
            'ERROR: failed to create cluster: node(s) already exist for a cluster with the name "any"\n',
            'failed to create cluster: node(s) already exist for a cluster with the name "any"',
        ),
        ("panic: something\nelse", "panic: something else"),
        ("", "it printed nothing"),
    ],
)
def test_a_failure_is_reduced_to_its_first_words(said: str, words: str) -> None:
    assert first_words(said) == words


def test_a_long_failure_is_shortened() -> None:
    assert len(first_words(f"ERROR: {'x' * 1000}")) == 201
