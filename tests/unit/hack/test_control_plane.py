"""The decisions of the control plane's build and start: versions, flags, progress, kubeconfigs."""

from pathlib import Path

import pytest
import yaml

from hack.control_plane.commands import apiserver_command
from hack.control_plane.kubeconfig import current_context, write_kubeconfig
from hack.control_plane.pins import MORE_PROGRAMS, pins, pins_of, program_build, programs_build
from hack.control_plane.processes import free_ports, port_was_in_use
from hack.control_plane.state import Ports
from hack.errors import BuildFailed, WrongSetting
from hack.go_build.compile import is_download_line, is_package_line, module_checksum, oldest_go
from hack.go_build.programs import MODULES, go_program, module_build
from hack.go_build.progress import Lines

GO_MOD = """
go 1.26.0
require (
	go.etcd.io/etcd/server/v3 v3.6.8 // indirect
	k8s.io/kubernetes v1.36.3 // indirect
)
"""


def test_versions_come_from_go_mod() -> None:
    pinned = pins_of(GO_MOD)
    assert (pinned.kubernetes, pinned.etcd) == ("1.36.3", "3.6.8")


def test_another_go_sum_means_other_programs(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text(GO_MOD)
    without = module_checksum(tmp_path)
    (tmp_path / "go.sum").write_text("a")
    assert len({without, module_checksum(tmp_path), module_checksum(tmp_path, "another flag")}) == 3
    assert oldest_go(tmp_path) == (1, 26, 0)


def test_every_program_of_a_node_has_the_control_planes_version() -> None:
    assert {program_build(name).details for name in MORE_PROGRAMS} == {f" {pins().kubernetes}"}
    assert program_build("kubelet").linker_flags == programs_build(pins()).linker_flags


@pytest.mark.parametrize(
    ("name", "made"), [("helm3", "helm"), ("helm4", "helm"), ("kind", "kind"), ("actionlint", "actionlint")]
)
def test_a_program_has_the_name_of_its_folder(name: str, made: str) -> None:
    assert module_build(MODULES / name).named == {made: name}


def test_an_unknown_program_is_refused_with_a_list_of_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"holds no go\.mod: programs are actionlint, .*helm3, helm4.*, pause"):
        go_program("hlem")


def test_only_import_paths_count_as_compiled() -> None:
    said = ["go: downloading k8s.io/api v0.36.3", "# k8s.io/api", "k8s.io/api/core/v1", "", "internal/cpu"]
    assert [line for line in said if is_package_line(line)] == ["k8s.io/api/core/v1", "internal/cpu"]
    assert [line for line in said if is_download_line(line)] == said[:1]


def test_without_a_terminal_a_line_is_written_at_intervals() -> None:
    written: list[str] = []
    seconds = [0.0]
    lines = Lines(written.append, every_s=15, clock=lambda: seconds[0])
    for at, done in ((1, 10), (15.2, 400), (16, 410), (29, 700), (31, 812)):
        seconds[0] = at
        lines.at("building", done, 1743)
    assert written == ["building: 400 of 1,743 packages, 15 s", "building: 812 of 1,743 packages, 31 s"]


def test_requests_are_logged_only_with_an_audit_log(tmp_path: Path) -> None:
    ports = Ports(1, 2, 3)
    program = Path("kube-apiserver")
    assert not [part for part in apiserver_command(program, tmp_path, ports, None) if "audit" in str(part)]
    asked = apiserver_command(program, tmp_path, ports, tmp_path / "audit.log")
    assert f"--audit-log-path={tmp_path}/audit.log" in asked


def test_the_ports_are_different() -> None:
    ports = free_ports()
    assert len({ports.etcd_client, ports.etcd_peer, ports.apiserver}) == 3


def test_a_port_in_use_is_distinguished_from_other_failures() -> None:
    assert port_was_in_use("failed to listen on 127.0.0.1:443: bind: address already in use")
    assert not port_was_in_use("error: invalid argument")


def test_paths_of_a_kubeconfigs_cluster_are_made_absolute(tmp_path: Path) -> None:
    """The authority's file is named relative to the kubeconfig; credentials and unknown fields stay behind."""
    content = {
        "clusters": [
            {"name": "other", "cluster": {"server": "https://other"}},
            {
                "name": "mine",
                "cluster": {
                    "server": "https://mine",
                    "certificate-authority": "ca.crt",
                    "tls-server-name": "mine.example",
                    "insecure-skip-tls-verify": False,
                    "extensions": [],
                },
            },
        ],
        "contexts": [{"name": "here", "context": {"cluster": "mine", "user": "me"}}],
        "current-context": "here",
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(content))
    context = current_context(path)
    assert (context.name, context.namespace) == ("here", "default")
    assert context.cluster == {
        "server": "https://mine",
        "certificate-authority": str(tmp_path / "ca.crt"),
        "tls-server-name": "mine.example",
        "insecure-skip-tls-verify": False,
    }


def test_a_written_kubeconfig_is_private_and_can_be_read_again(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "c", name="n", cluster={"server": "https://x"}, token="t", namespace="shop")
    assert path.stat().st_mode & 0o777 == 0o600
    assert current_context(path).namespace == "shop"
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "just words",
        "- a list",
        "a: {b",
        "contexts: []",
        "{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: []}",
        "{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: [{name: c, cluster: {}}]}",
        "\x00\x01",
    ],
)
def test_a_file_that_is_no_kubeconfig_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(WrongSetting, match="is no kubeconfig with a current context"):
        current_context(path)
