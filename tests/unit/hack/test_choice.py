"""Which cluster is used, and how the choice is explained."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hack.cluster_choice.choice import control_plane_origin, given_programs, kind_origin
from hack.cluster_choice.standing import kind_name
from hack.errors import WrongSetting

Assets = Callable[..., Path]
VERSION = "echo Kubernetes v1.32.4"


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assets:
    """KUBEBUILDER_ASSETS with these scripts in place of programs."""
    folder = tmp_path / "assets"
    folder.mkdir()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))

    def made(**scripts: str) -> Path:
        for name, script in scripts.items():
            path = folder / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return folder

    return made


def test_without_the_variable_no_programs_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    assert given_programs() is None


def test_given_programs_are_used_with_the_version_that_they_print(assets: Assets) -> None:
    folder = assets(etcd="", kube_apiserver=VERSION, kubectl="")
    programs = given_programs()
    assert programs is not None
    assert (programs.etcd, programs.kubectl) == (folder / "etcd", folder / "kubectl")
    assert programs.kubernetes_version == "1.32.4"


def test_missing_programs_are_named(assets: Assets) -> None:
    folder = assets(kube_apiserver=VERSION)
    with pytest.raises(
        WrongSetting, match=f"^KUBEBUILDER_ASSETS: {folder} holds no program etcd and no kubectl: set it"
    ):
        given_programs()


def test_a_file_that_is_not_executable_is_no_program(assets: Assets) -> None:
    folder = assets(etcd="", kube_apiserver=VERSION, kubectl="")
    (folder / "etcd").chmod(0o644)
    with pytest.raises(WrongSetting, match="holds no program etcd: set it"):
        given_programs()


def test_a_missing_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "gone"))
    with pytest.raises(
        WrongSetting, match=f"{tmp_path}/gone holds no program etcd and no kube-apiserver and no kubectl"
    ):
        given_programs()


def test_an_api_server_for_another_platform_is_refused(assets: Assets) -> None:
    folder = assets(etcd="", kube_apiserver=VERSION, kubectl="")
    (folder / "kube-apiserver").write_bytes(b"\x7fELF no program")
    with pytest.raises(WrongSetting, match=r"kube-apiserver can't be run .*Exec format error.*: set it to a folder"):
        given_programs()


def test_an_api_server_without_a_version_is_refused(assets: Assets) -> None:
    assets(etcd="", kube_apiserver="echo hello", kubectl="")
    with pytest.raises(WrongSetting, match=r"--version names no version, 'hello\\n'"):
        given_programs()


def test_the_origin_of_a_built_control_plane_says_why_no_other_cluster_is_used() -> None:
    said = control_plane_origin("1.36.3", programs_folder=None, why_not_kind="no container engine answers")
    assert said == (
        "a control plane of our own, Kubernetes 1.36.3, because neither CLUSTER_KUBECONFIG nor KUBEBUILDER_ASSETS is set, "
        "and no container engine answers"
    )


def test_the_origin_of_given_programs_names_their_folder() -> None:
    said = control_plane_origin("1.32.4", programs_folder=Path("/opt/assets"), why_not_kind="")
    assert said == (
        "a control plane of our own, Kubernetes 1.32.4, of the programs in /opt/assets, because KUBEBUILDER_ASSETS is set"
    )


def test_the_origin_of_a_kind_cluster_names_the_engine() -> None:
    assert kind_origin("podman").endswith("nor KUBEBUILDER_ASSETS is set, and podman answers")


def test_clusters_of_two_checkouts_have_different_valid_host_names(tmp_path: Path) -> None:
    longest = "n" * 42
    here, there = kind_name(longest, tmp_path / "here"), kind_name(longest, tmp_path / "there")
    assert here != there
    assert len(f"{here}-control-plane") <= 63
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", here)
    assert kind_name(longest, tmp_path / "here") == here
