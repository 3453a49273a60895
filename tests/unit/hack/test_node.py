"""Whether a machine can be a node, and what the node's programs are told."""

import tomllib
from pathlib import Path

import pytest

from hack import pod_cluster
from hack.errors import KindUnavailable
from hack.kind import KindCluster
from hack.node import machine
from hack.node.machine import why_no_node
from hack.node.node import corefile, kubelet_configuration, mounts_below
from hack.node.runtime import configuration_text
from hack.pod_cluster import NoPods, cluster_with_pods


@pytest.mark.parametrize(
    ("platform", "user", "why"),
    [("darwin", 0, "a node needs Linux, this is darwin"), ("linux", 1000, "a node needs root")],
)
def test_a_node_needs_linux_and_root(platform: str, user: int, why: str) -> None:
    assert why_no_node(platform=platform, user=user) == why


def test_a_node_needs_packages_or_the_means_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find", lambda program: None if program == "buildah" else program)
    assert why_no_node(platform="linux", user=0, has_apt=True) is None
    refused = why_no_node(platform="linux", user=0, has_apt=False)
    assert refused == "a node needs buildah, and there is no apt-get to install them"


def test_where_neither_kind_nor_a_node_can_be_had_one_sentence_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_engine(*_: object, **__: object) -> None:
        raise KindUnavailable("no container engine answers")

    monkeypatch.setattr(KindCluster, "create", no_engine)
    monkeypatch.setattr(pod_cluster, "why_no_node", lambda: "a node needs root")
    expected = "no cluster with pods can be had here: no container engine answers; and a node needs root"
    with pytest.raises(NoPods, match=expected), cluster_with_pods(tmp_path, name="none", say=print):
        pass


def test_containerd_keeps_everything_in_the_nodes_own_folder() -> None:
    folder = Path("/somewhere/node")
    told = tomllib.loads(configuration_text(folder, folder / "containerd.sock", folder / "cni"))
    cri = told["plugins"]["io.containerd.grpc.v1.cri"]
    places = [
        told["root"],
        told["state"],
        told["grpc"]["address"],
        told["plugins"]["io.containerd.internal.v1.opt"]["path"],
        cri["cni"]["conf_dir"],
        cri["containerd"]["runtimes"]["runc"]["options"]["Root"],
    ]
    assert all(Path(place).is_relative_to(folder) for place in places)
    assert cri["restrict_oom_score_adj"] is True


def test_the_kubelet_asks_our_containerd_and_gives_pods_our_names() -> None:
    told = kubelet_configuration(Path("/somewhere/containerd.sock"), Path("/somewhere/logs"))
    assert told["containerRuntimeEndpoint"] == "unix:///somewhere/containerd.sock"
    assert told["podLogsDir"] == "/somewhere/logs"
    assert f"bind {told['address']}" in corefile(Path("/somewhere/kubeconfig"))


def test_nothing_is_mounted_below_a_folder_that_was_just_made(tmp_path: Path) -> None:
    assert mounts_below(tmp_path) == []
    assert "/proc" in mounts_below(Path("/"))
