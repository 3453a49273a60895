"""The life of a release, by a real Helm on a real API server: installed, upgraded, uninstalled, and beside another one.

No pods run here: what is asked of them is shown where there are nodes.
"""

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hack.cluster_choice.choice import Cluster
from hack.errors import ToolError
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import apply_crds, wait_until_served
from hack.repository import CHART
from tests.support.chart import DATABASE, NO_CRDS, RELEASE, Helm, Json
from tests.support.manifests import CRDS, a_source

OURS = "embeddings.yellowbook.dev"
CRD_NAMES = [f"embeddingjobs.{OURS}", f"embeddingsources.{OURS}"]


@pytest.fixture
def kubectl(chart_cluster: Cluster) -> Iterator[Kubectl]:
    """In a namespace that does not exist yet, without CRDs before and after."""
    with cleared_afterwards(chart_cluster, "release") as administrator:
        yield administrator


@contextmanager
def cleared_afterwards(cluster: Cluster, prefix: str) -> Iterator[Kubectl]:
    """An administrator in a new namespace. The cluster-wide objects of a release are deleted at the end."""
    administrator = Kubectl(cluster, f"{prefix}-{secrets.token_hex(4)}")
    yield administrator
    if present := crds_present(administrator):
        wait_until_served(administrator, present)
        administrator.run("delete", "crds", *present, "--timeout=60s", within_s=90)
    administrator.run("delete", "clusterroles", "-l", f"app.kubernetes.io/name={RELEASE}")


@pytest.fixture
def a_helm(each_helm: Helm, chart_cluster: Cluster) -> Helm:
    return replace(each_helm, kubeconfig=chart_cluster.admin_kubeconfig)


def install(helm: Helm, kubectl: Kubectl, *arguments: str, values: Json = DATABASE, chart: Path = CHART) -> str:
    where = ("--namespace", kubectl.namespace, "--create-namespace")
    return helm.run("install", RELEASE, str(chart), *where, *arguments, values=values)


def columns(kubectl: Kubectl) -> list[str]:
    (version,) = kubectl.get("crd", CRD_NAMES[1])["spec"]["versions"]
    return [column["name"] for column in version["additionalPrinterColumns"]]


def crds_present(kubectl: Kubectl) -> list[str]:
    return sorted(crd["metadata"]["name"] for crd in kubectl.get("crds")["items"] if crd["spec"]["group"] == OURS)


def test_an_install_creates_crds_rights_and_deployment(a_helm: Helm, kubectl: Kubectl) -> None:
    install(a_helm, kubectl)
    assert crds_present(kubectl) == CRD_NAMES
    made = kubectl.get("deployments,serviceaccounts,roles,rolebindings,services")["items"]
    ours = [it["kind"] for it in made if it["metadata"]["name"] == RELEASE]
    assert sorted(ours) == ["Deployment", "Role", "RoleBinding", "Service", "ServiceAccount"]
    assert kubectl.get("pods")["items"] == []  # only `helm test` creates the check


def test_its_notes_give_the_next_three_commands(a_helm: Helm, kubectl: Kubectl) -> None:
    notes = install(a_helm, kubectl).partition("NOTES:")[2]
    assert f"helm test {RELEASE} --namespace {kubectl.namespace} --logs" in notes
    applied, _ = notes.split("<<'EOF'\n")[1].split("    EOF\n")
    source = yaml.safe_load(applied)
    wait_until_served(kubectl, CRD_NAMES)
    arguments = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
    assert "embeddingsource" in kubectl.run(*arguments, stdin=yaml.safe_dump(source))
    (watched,) = re.findall(r"kubectl get (\S+) --namespace \S+ --watch", notes)
    kubectl.run("get", watched)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**DATABASE, "replicas": 0}, "With replicas=0 it does nothing until you set replicas to 1."),
        (
            {"postgresql": {"enabled": True, "password": "x"}},
            "is only for trying out the operator, and its data is deleted with its pod.",
        ),
    ],
)
def test_its_notes_mention_unusual_values(a_helm: Helm, kubectl: Kubectl, values: Json, words: str) -> None:
    notes = install(a_helm, kubectl, "--dry-run=server", values=values).partition("NOTES:")[2]
    assert words in notes


def test_an_upgrade_changes_what_its_values_say(a_helm: Helm, kubectl: Kubectl) -> None:
    install(a_helm, kubectl)
    before = kubectl.get("deployment", RELEASE)
    arguments = ("upgrade", RELEASE, str(CHART), "--namespace", kubectl.namespace)
    a_helm.run(*arguments, values=DATABASE)
    assert kubectl.get("deployment", RELEASE)["metadata"]["generation"] == before["metadata"]["generation"]
    a_helm.run(*arguments, values={**DATABASE, "settings": {"maxOpenJobs": 100}})
    container = kubectl.get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "EMBEDDING_MAX_OPEN_JOBS", "value": "100"} in container["env"]


def test_an_upgrade_upgrades_the_crds(a_helm: Helm, kubectl: Kubectl, tmp_path: Path) -> None:
    """Helm never upgrades files in a chart's crds/ folder, so the CRDs are templates."""
    older = tmp_path / CHART.name
    shutil.copytree(CHART, older)
    crd = older / "files" / "crds" / "embeddingsources.yaml"
    lines = [line for line in crd.read_text().splitlines(keepends=True) if "name: Fresh %" not in line]
    crd.write_text("".join(lines))
    install(a_helm, kubectl, chart=older)
    assert "Fresh %" not in columns(kubectl)
    a_helm.run("upgrade", RELEASE, str(CHART), "--namespace", kubectl.namespace, values=DATABASE)
    assert "Fresh %" in columns(kubectl)


def test_an_uninstall_keeps_crds_and_sources_and_a_reinstall_takes_them_over(a_helm: Helm, kubectl: Kubectl) -> None:
    install(a_helm, kubectl)
    wait_until_served(kubectl, CRD_NAMES)
    kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(a_source("businesses")))
    a_helm.run("uninstall", RELEASE, "--namespace", kubectl.namespace)
    assert crds_present(kubectl) == CRD_NAMES
    assert kubectl.get("embeddingsource", "businesses")["spec"]["table"] == "public.businesses"
    with pytest.raises(ToolError, match="not found"):
        kubectl.get("deployment", RELEASE)
    install(a_helm, kubectl)
    assert kubectl.get("embeddingsource", "businesses")["spec"]["table"] == "public.businesses"
    assert kubectl.get("deployment", RELEASE)["spec"]["replicas"] == 1


def test_without_keep_an_uninstall_removes_them(a_helm: Helm, kubectl: Kubectl) -> None:
    install(a_helm, kubectl, values={**DATABASE, "crds": {"keep": False}})
    wait_until_served(kubectl, CRD_NAMES)
    a_helm.run("uninstall", RELEASE, "--namespace", kubectl.namespace)
    kubectl.run("wait", "--for=delete", "--timeout=100s", *(f"crd/{name}" for name in CRD_NAMES), within_s=120)
    assert crds_present(kubectl) == []


def test_a_second_release_of_the_same_name_lives_in_another_namespace(a_helm: Helm, kubectl: Kubectl) -> None:
    other = replace(kubectl, namespace=f"{kubectl.namespace}-other")
    install(a_helm, kubectl)
    install(a_helm, other, values={**DATABASE, **NO_CRDS})
    a_helm.run("uninstall", RELEASE, "--namespace", other.namespace)
    assert kubectl.get("deployment", RELEASE)["spec"]["replicas"] == 1
    roles = [role["metadata"]["name"] for role in kubectl.get("clusterroles")["items"]]
    assert {name for name in roles if name.startswith(f"{RELEASE}:")} == {
        f"{RELEASE}:{kubectl.namespace}:{role}"
        for role in ("job-viewer", "job-editor", "job-replayer", "row-explainer", "source-viewer", "source-editor")
    }


def test_a_second_release_with_crds_is_refused_by_name(a_helm: Helm, kubectl: Kubectl) -> None:
    other = replace(kubectl, namespace=f"{kubectl.namespace}-other")
    install(a_helm, kubectl)
    where = ("--namespace", other.namespace, "--create-namespace")
    done = a_helm.try_run("install", RELEASE, str(CHART), *where, values=DATABASE)
    assert done.returncode != 0
    assert CRD_NAMES[0] in done.stderr
    assert kubectl.namespace in done.stderr


def test_crds_that_were_applied_by_hand_can_be_taken_over(a_helm: Helm, kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f", str(CRDS))
    install(a_helm, kubectl, "--take-ownership")
    owner = kubectl.get("crd", CRD_NAMES[0])["metadata"]["annotations"]["meta.helm.sh/release-namespace"]
    assert owner == kubectl.namespace


def test_crds_that_were_applied_by_hand_can_be_left_alone(a_helm: Helm, kubectl: Kubectl) -> None:
    apply_crds(kubectl.cluster)
    install(a_helm, kubectl, values={**DATABASE, **NO_CRDS})
    assert "annotations" not in kubectl.get("crd", CRD_NAMES[0])["metadata"]
