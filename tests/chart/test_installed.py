"""What an upgrade or a second release would break is refused before Helm changes anything, by a look at what is installed."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hack.cluster_choice.choice import Cluster
from hack.installation.kubectl import Kubectl
from hack.repository import CHART
from tests.chart.test_releases import cleared_afterwards
from tests.support.chart import DATABASE, NO_CRDS, RELEASE, Helm, Json

VALUES: Json = {**DATABASE, **NO_CRDS}
DISK: Json = {"enabled": True, "size": "2Gi", "storageClass": "fast"}
WITH_POSTGRESQL: Json = {**NO_CRDS, "postgresql": {"enabled": True, "password": "x", "persistence": DISK}}
SET_BACK = "is immutable: set nameOverride to embedding-operator, or first run `kubectl delete deployment"
RENAMED: dict[str, tuple[str, Json, str]] = {
    "a part of the release's name": (
        RELEASE,
        {"nameOverride": "operator"},
        f"nameOverride gives the selector of Deployment {RELEASE} the label app.kubernetes.io/name=operator, but it has "
        f"embedding-operator, and a selector {SET_BACK} {RELEASE} --namespace ",
    ),
    "beside the same full name": (
        "search",
        {"nameOverride": "vectors", "fullnameOverride": "search-embedding-operator"},
        "nameOverride gives the selector of Deployment search-embedding-operator the label app.kubernetes.io/name=vectors",
    ),
}
DATA_LOST = (
    "would replace StatefulSet embedding-operator-postgresql, and PostgreSQL would lose its data: set them as they were"
)
IMMUTABLE: dict[str, tuple[Json, Json, str]] = {
    "a larger volume": (
        {},
        {"size": "4Gi"},
        "postgresql.persistence.size is 4Gi, but the volume was created with 2Gi, and the volumes of a StatefulSet are "
        "immutable: set it to 2Gi",
    ),
    "another class": (
        {},
        {"storageClass": "slow"},
        'postgresql.persistence.storageClass is "slow", but was "fast" when the volume was created',
    ),
    "no class any more": (
        {},
        {"storageClass": "-"},
        'postgresql.persistence.storageClass is "-", but was "fast" when the volume was created',
    ),
    "no volume any more": (
        {},
        {"enabled": False},
        "postgresql.persistence.enabled is false, but was not so when StatefulSet",
    ),
    "a volume later": (
        {"enabled": False},
        {"enabled": True},
        "postgresql.persistence.enabled is true, but was not so when StatefulSet embedding-operator-postgresql was created",
    ),
    "another name": (
        {},
        {"fullnameOverride": "vectors"},
        f"nameOverride and fullnameOverride {DATA_LOST}",
    ),
}
SAME_VOLUME: dict[str, tuple[Json, Json]] = {
    "the same": ({}, {}),
    "the same size in another unit": ({}, {"size": "2048Mi"}),
    "the default class": ({"storageClass": ""}, {"storageClass": ""}),
    "no class": ({"storageClass": "-"}, {"storageClass": "-"}),
}


@pytest.fixture
def kubectl(chart_cluster: Cluster) -> Iterator[Kubectl]:
    with cleared_afterwards(chart_cluster, "installed") as administrator:
        yield administrator


@pytest.fixture
def a_helm(each_helm: Helm, chart_cluster: Cluster) -> Helm:
    return replace(each_helm, kubeconfig=chart_cluster.admin_kubeconfig)


@pytest.fixture
def helm_4(helm: Helm, chart_cluster: Cluster) -> Helm:
    return replace(helm, kubeconfig=chart_cluster.admin_kubeconfig)


def upgraded(helm: Helm, kubectl: Kubectl, values: Json, release: str = RELEASE) -> str:
    """Helm's message, with which it refuses an upgrade; empty if it accepts it."""
    arguments = ("upgrade", "--install", release, str(CHART), "--namespace", kubectl.namespace, "--create-namespace")
    done = helm.try_run(*arguments, values=values)
    return done.stderr if done.returncode else ""


def with_disk(persistence: Json) -> Json:
    own = {key: value for key, value in persistence.items() if key != "fullnameOverride"}
    names = {key: value for key, value in persistence.items() if key == "fullnameOverride"}
    postgresql = {**WITH_POSTGRESQL["postgresql"], "persistence": {**DISK, **own}}
    return {**WITH_POSTGRESQL, **names, "postgresql": postgresql}


@pytest.mark.parametrize(("release", "values", "words"), RENAMED.values(), ids=RENAMED)
def test_another_name_in_an_immutable_selector_is_refused(
    a_helm: Helm, kubectl: Kubectl, release: str, values: Json, words: str
) -> None:
    assert upgraded(a_helm, kubectl, VALUES, release) == ""
    assert words in upgraded(a_helm, kubectl, {**VALUES, **values}, release)
    assert upgraded(a_helm, kubectl, VALUES, release) == ""


def test_the_command_of_the_refusal_makes_the_upgrade_possible(a_helm: Helm, kubectl: Kubectl) -> None:
    renamed = {**VALUES, "nameOverride": "operator"}
    assert upgraded(a_helm, kubectl, VALUES) == ""
    command = upgraded(a_helm, kubectl, renamed).split("`")[1].split()
    kubectl.run(*command[1:])
    assert upgraded(a_helm, kubectl, renamed) == ""
    assert kubectl.get("deployment", RELEASE)["metadata"]["labels"]["app.kubernetes.io/name"] == "operator"
    kubectl.run("delete", "clusterroles", "-l", "app.kubernetes.io/name=operator")


def test_another_full_name_replaces_the_deployment(helm_4: Helm, kubectl: Kubectl) -> None:
    assert upgraded(helm_4, kubectl, VALUES, "search") == ""
    assert upgraded(helm_4, kubectl, {**VALUES, "fullnameOverride": "vectors"}, "search") == ""
    assert [it["metadata"]["name"] for it in kubectl.get("deployments")["items"]] == ["vectors"]


@pytest.mark.parametrize(("before", "after", "words"), IMMUTABLE.values(), ids=IMMUTABLE)
def test_another_volume_of_postgresql_is_refused(
    helm_4: Helm, kubectl: Kubectl, before: Json, after: Json, words: str
) -> None:
    assert upgraded(helm_4, kubectl, with_disk(before)) == ""
    assert words in upgraded(helm_4, kubectl, with_disk(after))


@pytest.mark.parametrize(("before", "after"), SAME_VOLUME.values(), ids=SAME_VOLUME)
def test_an_upgrade_with_the_same_volume_is_accepted(helm_4: Helm, kubectl: Kubectl, before: Json, after: Json) -> None:
    assert upgraded(helm_4, kubectl, with_disk(before)) == ""
    assert upgraded(helm_4, kubectl, with_disk(after)) == ""


def test_a_second_release_in_the_same_namespace_is_refused(a_helm: Helm, kubectl: Kubectl) -> None:
    """Both operators would process the same sources, each with a database of its own."""
    assert upgraded(a_helm, kubectl, VALUES, "blue") == ""
    said = upgraded(a_helm, kubectl, VALUES, "green")
    assert f"release blue in namespace {kubectl.namespace} already processes the sources of this namespace" in said
    assert "install this release in another namespace, or set replicas=0 in one of the two" in said
    assert upgraded(a_helm, replace(kubectl, namespace=f"{kubectl.namespace}-2"), VALUES, "green") == ""


def test_a_release_can_follow_another_one_that_is_stopped(helm_4: Helm, kubectl: Kubectl) -> None:
    assert upgraded(helm_4, kubectl, {**VALUES, "replicas": 0}, "blue") == ""
    assert upgraded(helm_4, kubectl, VALUES, "green") == ""
    assert "release green " in upgraded(helm_4, kubectl, VALUES, "blue")


def test_another_application_in_the_namespace_is_no_second_release(helm_4: Helm, kubectl: Kubectl) -> None:
    kubectl.run("create", "namespace", kubectl.namespace)
    kubectl.run("create", "deployment", "shop", "--image=shop")
    assert upgraded(helm_4, kubectl, VALUES) == ""
