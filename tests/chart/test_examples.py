"""The values in docs/examples/helm are valid for this chart, and render what the install page says."""

from pathlib import Path

import pytest
import yaml

from hack.control_plane.pins import pins
from hack.repository import CHART
from tests.support.chart import DATABASE, RELEASE, Helm, Json

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "helm"
PAGE = (EXAMPLES.parents[1] / "install.md").read_text()
CLUSTERS_OWN = {"CustomResourceDefinition", "ClusterRole", "Role", "RoleBinding", "ServiceAccount"}


def values(name: str) -> Json:
    loaded: Json = yaml.safe_load((EXAMPLES / name).read_text())
    return loaded


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("values*.yaml")))
def test_an_example_needs_no_other_value(each_helm: Helm, name: str) -> None:
    assert "kind: Deployment" in each_helm.template(values(name))


def test_without_rights_in_the_cluster_only_a_deployment_its_service_and_the_check_are_created(helm: Helm) -> None:
    text = helm.template(values("values-without-cluster-rights.yaml"))
    kinds = {document["kind"] for document in yaml.safe_load_all(text) if document}
    assert kinds == {"Deployment", "Service", "Pod"}
    assert kinds & CLUSTERS_OWN == set()


def test_serve_is_installed_without_rights_in_the_cluster_with_what_the_administrator_has_created(helm: Helm) -> None:
    own = {"serve": {"enabled": True}}
    installed = helm.render(values("values-without-cluster-rights.yaml") | own)
    assert {it["kind"] for it in installed} == {"Deployment", "Service", "Pod"}
    command = ("template", RELEASE, str(CHART), "--kube-version", pins().kubernetes)
    text = helm.run(*command, "--show-only", "templates/rbac.yaml", values={**DATABASE, **own})
    created = [document for document in yaml.safe_load_all(text) if document]
    account = installed.one("Deployment", "embedding-operator-serve")["spec"]["template"]["spec"]["serviceAccountName"]
    assert [it["kind"] for it in created if it["metadata"]["name"] == account] == [
        "ServiceAccount",
        "Role",
        "RoleBinding",
    ]


def template_of_the_pod(helm: Helm, more: Json) -> Json:
    template: Json = helm.render(more).one("Deployment")["spec"]["template"]
    return template


@pytest.mark.parametrize(
    "more",
    [
        {"networkPolicy": {"enabled": True}},
        {"podDisruptionBudget": {"enabled": True}},
        {"rbac": {"create": False, "userRoles": {"create": False}}},
        {"crds": {"install": True, "keep": False}},
        {"serviceAccount": {"annotations": {"a": "b"}}},
        {"progressDeadlineSeconds": 60},
        {"replicas": 0},
    ],
    ids=lambda more: "-".join(more),
)
def test_a_value_that_restarts_nothing(helm: Helm, more: Json) -> None:
    """docs/upgrade.md lists them."""
    assert template_of_the_pod(helm, more) == template_of_the_pod(helm, {})


@pytest.mark.parametrize(
    "more",
    [
        {"image": {"tag": "other"}},
        {"settings": {"logLevel": "debug"}},
        {"gemini": {"existingSecret": "other"}},
        {"gemini": {"existingSecret": "s", "existingSecretKey": "other"}},
        {"apiKeys": [{"secretName": "s", "key": "k", "endpoints": ["https://api.openai.com/v1"]}]},
        {"database": {"existingSecret": "other"}},
        {"proxy": {"httpsProxy": "http://proxy.example:3128"}},
        {"privateCA": {"configMap": "other"}},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"extraEnv": [{"name": "TZ", "value": "UTC"}]},
        {"podLabels": {"a": "b"}},
        {"commonLabels": {"a": "b"}},
        {"nodeSelector": {"a": "b"}},
    ],
    ids=lambda more: "-".join(more),
)
def test_a_value_that_restarts_the_pod(helm: Helm, more: Json) -> None:
    assert template_of_the_pod(helm, more) != template_of_the_pod(helm, {})


def test_the_page_states_the_memory_that_the_pod_requests(helm: Helm) -> None:
    asked = helm.render().container()["resources"]["requests"]["memory"]
    assert f"{asked.removesuffix('Mi')} MiB of memory, because it used" in PAGE


def test_the_page_removes_the_pod_of_helm_test(helm: Helm) -> None:
    metadata = helm.render().one("Pod")["metadata"]
    assert f"kubectl delete pod {metadata['name']} --namespace {metadata['namespace']} " in PAGE
