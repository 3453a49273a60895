"""docs/upgrade.md: taking over CRDs, rolling them back, and moving a release from Helm 3 to Helm 4."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hack.cluster_choice.choice import Cluster
from hack.go_build.programs import go_program
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import wait_until_served
from hack.repository import CHART
from tests.chart.test_releases import CRD_NAMES, cleared_afterwards, columns, crds_present
from tests.support.chart import DATABASE, NO_CRDS, RELEASE, Helm
from tests.support.manifests import a_source

WITHOUT_CRDS = {**DATABASE, **NO_CRDS}


@pytest.fixture
def first(chart_cluster: Cluster) -> Iterator[Kubectl]:
    """The namespace of a first release; without CRDs before and after."""
    with cleared_afterwards(chart_cluster, "first") as administrator:
        yield administrator


@pytest.fixture
def second(first: Kubectl) -> Kubectl:
    return replace(first, namespace=first.namespace.replace("first", "second"))


@pytest.fixture
def a_helm(each_helm: Helm, chart_cluster: Cluster) -> Helm:
    return replace(each_helm, kubeconfig=chart_cluster.admin_kubeconfig)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart before its sources had a column."""
    chart = tmp_path_factory.mktemp("older") / CHART.name
    shutil.copytree(CHART, chart)
    crd = chart / "files" / "crds" / "embeddingsources.yaml"
    lines = [line for line in crd.read_text().splitlines(keepends=True) if "name: Fresh %" not in line]
    crd.write_text("".join(lines))
    return chart


def in_(kubectl: Kubectl) -> tuple[str, ...]:
    return ("--namespace", kubectl.namespace)


def owner(kubectl: Kubectl) -> str:
    annotations = kubectl.get("crd", CRD_NAMES[0])["metadata"]["annotations"]
    return str(annotations["meta.helm.sh/release-namespace"])


@pytest.mark.parametrize("applied", [("apply",), ("apply", "--server-side")], ids=" ".join)
def test_older_crds_that_were_applied_by_hand_are_taken_over(
    a_helm: Helm, first: Kubectl, older: Path, applied: tuple[str, ...]
) -> None:
    first.run(*applied, "-f", str(older / "files" / "crds"))
    install = ("install", RELEASE, str(CHART), *in_(first), "--create-namespace")
    assert "invalid ownership metadata" in a_helm.try_run(*install, values=DATABASE).stderr
    flags = ["--take-ownership"]
    if a_helm.program.name == "helm4":  # it uses server-side apply, which checks the owner of a field
        flags.append("--force-conflicts")
    a_helm.run(*install, *flags, values=DATABASE)
    assert (owner(first), "Fresh %" in columns(first)) == (first.namespace, True)
    a_helm.run("upgrade", RELEASE, str(CHART), *in_(first), values=DATABASE)


def test_crds_move_from_one_release_to_another(a_helm: Helm, first: Kubectl, second: Kubectl) -> None:
    a_helm.run("install", RELEASE, str(CHART), *in_(first), "--create-namespace", values=DATABASE)
    a_helm.run("install", RELEASE, str(CHART), *in_(second), "--create-namespace", values=WITHOUT_CRDS)
    wait_until_served(first, CRD_NAMES)
    first.run("create", "-f", "-", stdin=yaml.safe_dump(a_source("businesses")))
    a_helm.run("upgrade", RELEASE, str(CHART), *in_(first), values=WITHOUT_CRDS)
    a_helm.run("upgrade", RELEASE, str(CHART), *in_(second), "--take-ownership", values=DATABASE)
    assert owner(first) == second.namespace
    a_helm.run("uninstall", RELEASE, *in_(first))
    assert crds_present(first) == CRD_NAMES
    assert first.get("embeddingsource", "businesses")["spec"]["table"] == "public.businesses"


def test_a_rollback_restores_the_crds_too(a_helm: Helm, first: Kubectl, older: Path) -> None:
    a_helm.run("install", RELEASE, str(older), *in_(first), "--create-namespace", values=DATABASE)
    wait_until_served(first, CRD_NAMES)
    first.run("create", "-f", "-", stdin=yaml.safe_dump(a_source("businesses")))
    a_helm.run("upgrade", RELEASE, str(CHART), *in_(first), "--reset-then-reuse-values")
    assert "Fresh %" in columns(first)
    a_helm.run("rollback", RELEASE, *in_(first))
    assert "Fresh %" not in columns(first)
    assert first.get("embeddingsource", "businesses")["spec"]["table"] == "public.businesses"


def test_a_release_of_helm_3_is_upgraded_by_helm_4(
    helm: Helm, first: Kubectl, older: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kubeconfig = first.cluster.admin_kubeconfig
    before = Helm(go_program("helm3"), tmp_path_factory.mktemp("helm3"), kubeconfig)
    before.run("install", RELEASE, str(older), *in_(first), "--create-namespace", values=DATABASE)
    replace(helm, kubeconfig=kubeconfig).run("upgrade", RELEASE, str(CHART), *in_(first), "--reset-then-reuse-values")
    assert "Fresh %" in columns(first)
