"""Whether a machine can be a node, and the configuration of the node's programs."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hack.cluster_choice import pods
from hack.cluster_choice.kind import KindCluster
from hack.cluster_choice.pods import NoPods, cluster_with_pods
from hack.errors import KindUnavailable, StartFailed
from hack.node import traces
from hack.node.machine import Machine
from hack.node.network import rules
from hack.node.node import corefile, kubelet_configuration, mounts_below
from hack.node.runtime import configuration_text

GOOD = Machine("linux", 0, (1 << 41) - 1, (), True, None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"platform": "darwin"}, "a node needs Linux, this is darwin"),
        ({"user": 1000}, "a node needs root"),
        ({"capabilities": 1 << 18 | 1 << 21}, "a node needs CAP_NET_ADMIN, which root does not have here"),
        (
            {"other_node": "/etc/kubernetes/kubelet.conf"},
            "this machine is a Kubernetes node already (/etc/kubernetes/kubelet.conf), and this one would disturb it",
        ),
        ({"missing_packages": ("buildah",)}, None),
        (
            {"missing_packages": ("buildah", "runc"), "has_apt": False},
            "a node needs buildah, runc, and there is no apt-get to install them",
        ),
    ],
)
def test_the_first_missing_requirement_of_a_node_is_named(change: dict[str, Any], why: str | None) -> None:
    assert replace(GOOD, **change).why_no_node() == why


def test_without_kind_and_node_one_sentence_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_engine(*_: object, **__: object) -> None:
        raise KindUnavailable("no container engine answers")

    monkeypatch.setattr(KindCluster, "create", no_engine)
    monkeypatch.setattr(pods, "this_machine", lambda: replace(GOOD, user=1000))
    expected = "no cluster with pods can be started here: no container engine answers; and a node needs root"
    with pytest.raises(NoPods, match=expected), cluster_with_pods(tmp_path, name="none", say=print):
        pass


def test_packages_that_cannot_be_installed_are_a_reason_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_engine(*_: object, **__: object) -> None:
        raise KindUnavailable("no container engine answers")

    def offline(say: object) -> None:
        raise StartFailed("`apt-get update --quiet` ended with 100: no network")

    monkeypatch.setattr(KindCluster, "create", no_engine)
    monkeypatch.setattr(pods, "this_machine", lambda: GOOD)
    monkeypatch.setattr(pods, "install_packages", offline)
    with pytest.raises(NoPods, match="no network"), cluster_with_pods(tmp_path, name="none", say=print):
        pass


def test_what_the_nodes_programs_set_is_restored(tmp_path: Path) -> None:
    folder, system = tmp_path / "node", tmp_path / "sys"
    folder.mkdir()
    (system / "kernel").mkdir(parents=True)
    (system / "kernel" / "panic").write_text("0\n")
    traces.record(folder, system=system)
    (system / "kernel" / "panic").write_text("10\n")
    traces.restore(folder, system=system)
    assert (system / "kernel" / "panic").read_text() == "0"


def test_only_pods_and_this_machine_reach_the_node() -> None:
    """As the kernel reads them: the first that fits decides."""
    (*_, to_node, from_lo, to_apiserver) = rules(6443)
    assert to_node == ["INPUT", "!", "--in-interface", "eo-pods0", "--destination", "10.89.131.1", "--jump", "REJECT"]
    assert from_lo[-1] == "ACCEPT"
    assert to_apiserver[-4:] == ["--dport", "6443", "--jump", "REJECT"]


def test_containerd_keeps_everything_in_the_nodes_own_folder() -> None:
    folder = Path("/somewhere/node")
    configured = tomllib.loads(configuration_text(folder, folder / "containerd.sock", folder / "cni"))
    cri = configured["plugins"]["io.containerd.grpc.v1.cri"]
    places = [
        configured["root"],
        configured["state"],
        configured["grpc"]["address"],
        configured["plugins"]["io.containerd.internal.v1.opt"]["path"],
        cri["cni"]["conf_dir"],
        cri["containerd"]["runtimes"]["runc"]["options"]["Root"],
    ]
    assert all(Path(place).is_relative_to(folder) for place in places)
    assert cri["restrict_oom_score_adj"] is True


def test_the_kubelet_uses_our_containerd_and_our_dns() -> None:
    configured = kubelet_configuration(
        Path("/somewhere"), Path("/somewhere/containerd.sock"), Path("/somewhere/ca.crt")
    )
    assert configured["containerRuntimeEndpoint"] == "unix:///somewhere/containerd.sock"
    assert configured["podLogsDir"] == "/somewhere/pod-logs"
    assert f"bind {configured['address']}" in corefile(Path("/somewhere/kubeconfig"))


def test_a_new_folder_has_no_mounts_below(tmp_path: Path) -> None:
    assert mounts_below(tmp_path) == []
    assert "/proc" in mounts_below(Path("/"))
