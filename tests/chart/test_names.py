"""Names and labels: two releases never collide, selectors never change, and the same values give the same objects."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from hack.repository import CHART
from tests.support.chart import DATABASE, NO_CRDS, Helm, Json, Objects

EVERYTHING = {
    "database": {"existingSecret": ""},
    "postgresql": {"enabled": True, "password": "x"},
    "gemini": {"apiKey": "k"},
    "openai": {"apiKey": "k"},
    "networkPolicy": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "grafanaDashboard": {"enabled": True},
    "privateCA": {"configMap": "ca"},
    "serve": {"enabled": True},
}
OF_THE_CLUSTER = {"ClusterRole", "CustomResourceDefinition"}


TEXTS = {"name", "namespace", "serviceName", "serviceAccountName", "secretName", "key", "priorityClassName", "value"}
"""Fields that hold a name, or a variable's value."""


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each scalar value in these objects, with the keys that lead to it."""
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(child, (*path, str(key)))
    else:
        yield path, node


def names(rendered: Objects) -> list[tuple[str, str, str]]:
    """Kind, namespace (none for what belongs to the cluster) and name."""
    return [(it["kind"], it["metadata"].get("namespace", ""), it["metadata"]["name"]) for it in rendered]


def selectors(rendered: Objects) -> dict[str, dict[str, str]]:
    workloads = [*rendered.of("Deployment"), *rendered.of("StatefulSet")]
    chosen = {it["metadata"]["name"]: it["spec"]["selector"]["matchLabels"] for it in workloads}
    return chosen | {f"service {it['metadata']['name']}": it["spec"]["selector"] for it in rendered.of("Service")}


@pytest.mark.parametrize(
    ("release", "values", "expected"),
    [
        ("embedding-operator", {}, "embedding-operator"),
        ("search", {}, "search-embedding-operator"),
        ("embedding-operator-blue", {}, "embedding-operator-blue"),
        ("search", {"nameOverride": "embeddings"}, "search-embeddings"),
        ("search", {"fullnameOverride": "embeddings"}, "embeddings"),
    ],
)
def test_names_begin_with_the_release(helm: Helm, release: str, values: dict[str, str], expected: str) -> None:
    rendered = helm.render({**EVERYTHING, **values}, release=release)
    assert rendered.operator()["metadata"]["name"] == expected
    assert all(name == expected or name.startswith((f"{expected}-", f"{expected}:")) for _, _, name in names(rendered))


@pytest.mark.parametrize(
    ("release", "values"),
    [
        ("r" * 53, {}),
        ("r" * 40 + "-embedding", {}),
        ("search", {"nameOverride": "n" * 63}),
        ("search", {"fullnameOverride": "f" * 41}),
    ],
)
def test_the_longest_names_are_not_too_long(helm: Helm, release: str, values: dict[str, str]) -> None:
    rendered = helm.render({**EVERYTHING, **values}, release=release)
    label = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
    assert all(label.fullmatch(name) for kind, _, name in names(rendered) if kind not in OF_THE_CLUSTER)
    # Kubernetes adds a dash and ten characters, and puts the result into a label of the pod, which can have 63 characters.
    assert len(rendered.one("StatefulSet")["metadata"]["name"]) <= 63 - len("-1234567890")


@pytest.mark.parametrize(
    ("release", "other"),
    [
        ("r" * 53, "r" * 52 + "s"),
        ("a" * 31 + "--b", "a" * 31 + "--c"),
        ("search-and-more-search-and-more-a", "search-and-more-search-and-more-b"),
    ],
)
def test_long_releases_that_begin_alike_have_different_names(helm: Helm, release: str, other: str) -> None:
    one, another = (helm.render(EVERYTHING, release=it, namespace="there") for it in (release, other))
    assert set(names(one)) & set(names(another)) == set()
    service = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
    assert all(service.fullmatch(name) for kind, _, name in names(one) if kind not in OF_THE_CLUSTER)
    shortened = one.operator()["metadata"]["name"]
    assert re.fullmatch(rf"{release[:32].rstrip('-')}-[0-9a-f]{{8}}", shortened), shortened


def test_two_releases_of_one_namespace_select_different_pods(helm: Helm) -> None:
    of_each = [selectors(helm.render(EVERYTHING, release=release)) for release in ("blue", "green")]
    for one in of_each[0].values():
        assert not any(one.items() <= other.items() for other in of_each[1].values())


@pytest.mark.parametrize(
    "more",
    [
        {
            "database": {},
            "gemini": {"apiKey": "k"},
            "postgresql": {
                "enabled": True,
                "password": "1",
                "database": "yes",
                "persistence": {"enabled": True, "size": "1"},
            },
            "privateCA": {"configMap": "off", "key": "012"},
        },
        {
            "database": {"existingSecret": "1234", "existingSecretKey": "yes"},
            "gemini": {"existingSecret": "123", "existingSecretKey": "1.5"},
            "privateCA": {"secret": "on", "key": "0x1"},
        },
    ],
    ids=["ours", "theirs"],
)
def test_a_name_that_yaml_would_take_for_a_number_or_a_boolean_stays_a_name(each_helm: Helm, more: Json) -> None:
    values = {
        "fullnameOverride": "yes",
        "nameOverride": "0",
        "commonLabels": {"a": "1"},
        "podLabels": {"b": "yes"},
        "imagePullSecrets": [{"name": "456"}],
        "serviceAccount": {"name": "no"},
        "priorityClassName": "789",
        "networkPolicy": {"enabled": True},
        "podDisruptionBudget": {"enabled": True},
    }
    rendered = each_helm.render({**values, **more}, release="1234", namespace="5678")
    for path, found in leaves(rendered):
        if path[-1] in TEXTS or {"labels", "matchLabels", "selector", "requests"} & set(path):
            assert isinstance(found, str), path
    assert rendered.one("RoleBinding")["subjects"] == [{"kind": "ServiceAccount", "name": "no", "namespace": "5678"}]


def test_everything_but_clusterroles_and_crds_is_in_the_releases_namespace(helm: Helm) -> None:
    for kind, namespace, name in names(helm.render(EVERYTHING, namespace="there", crds=True)):
        assert namespace == ("" if kind in OF_THE_CLUSTER else "there"), f"{kind} {name}"


def test_no_two_objects_of_a_release_have_the_same_name(helm: Helm) -> None:
    found = names(helm.render(EVERYTHING, crds=True))
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("embedding-operator", "blue"), ("embedding-operator", "green")),
        (("a", "b"), ("c", "b")),
        # Joined with dashes these two would be equal.
        (("embedding-operator-a", "b"), ("embedding-operator", "a-b")),
    ],
)
def test_two_releases_share_nothing_of_the_cluster(helm: Helm, one: tuple[str, str], other: tuple[str, str]) -> None:
    of_each = [set(names(helm.render(EVERYTHING, release=release, namespace=where))) for release, where in (one, other)]
    assert of_each[0] & of_each[1] == set()


def test_every_object_carries_the_standard_labels(helm: Helm) -> None:
    for found in helm.render(EVERYTHING, release="search", crds=True):
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "embedding-operator"
        assert labels["app.kubernetes.io/instance"] == "search"
        assert "app.kubernetes.io/component" in labels
        if found["kind"] != "Pod":  # the pod of helm test has a pod's labels
            assert labels["app.kubernetes.io/version"] == "0.1.0"
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
            assert labels["helm.sh/chart"] == "embedding-operator-0.1.0"


def test_common_labels_are_on_every_object_and_pod(helm: Helm) -> None:
    rendered = helm.render({**EVERYTHING, "commonLabels": {"team": "search"}}, crds=True)
    assert {found["metadata"]["labels"]["team"] for found in rendered} == {"search"}
    pods = [*rendered.of("Deployment"), *rendered.of("StatefulSet")]
    assert {pod["spec"]["template"]["metadata"]["labels"]["team"] for pod in pods} == {"search"}


def test_selectors_are_immutable_so_nothing_that_changes_is_in_them(helm: Helm) -> None:
    plain, labelled = (
        helm.render(EVERYTHING),
        helm.render({**EVERYTHING, "commonLabels": {"a": "b"}, "podLabels": {"c": "d"}}),
    )
    assert selectors(plain) == selectors(labelled)
    of_the_operator = {
        "app.kubernetes.io/name": "embedding-operator",
        "app.kubernetes.io/instance": "embedding-operator",
        "app.kubernetes.io/component": "operator",
    }
    assert selectors(plain)["embedding-operator"] == of_the_operator


def test_selectors_of_operator_and_postgresql_never_match_the_others_pods(helm: Helm) -> None:
    found = selectors(helm.render(EVERYTHING))
    assert found["service embedding-operator"] == found["embedding-operator"]
    assert found["service embedding-operator-postgresql"] == found["embedding-operator-postgresql"]
    assert found["embedding-operator"] != found["embedding-operator-postgresql"]


def test_the_service_does_not_select_the_check(helm: Helm) -> None:
    rendered = helm.render()
    selector = rendered.one("Service")["spec"]["selector"]
    assert not selector.items() <= rendered.one("Pod")["metadata"]["labels"].items()


def test_a_new_version_of_the_chart_alone_changes_no_pod(helm: Helm) -> None:
    labels = helm.render().one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)


def test_the_same_values_give_the_same_objects_each_time(each_helm: Helm) -> None:
    """GitOps tools compare them: no random values, no time, no lookups in the cluster."""
    values = {**DATABASE, **NO_CRDS, **EVERYTHING}
    assert each_helm.template(values) == each_helm.template(values)


def test_only_refusals_read_from_the_cluster() -> None:
    """A tool that renders outside of the cluster would read nothing, and would revert an installation."""
    for path in (CHART / "templates").rglob("*.*"):
        actions = "".join(re.findall(r"\{\{.*?\}\}", path.read_text(), re.DOTALL))
        found = re.search(r"\blookup\b|\.Capabilities|\.Release\.Is", re.sub(r'"[^"]*"', "", actions))
        assert bool(found) == (path.name == "installed.yaml"), path.name


def test_refusals_render_nothing(helm: Helm) -> None:
    assert "/refusals/" not in helm.template({**DATABASE, **NO_CRDS})


def test_both_helms_render_the_same_objects(helm: Helm, each_helm: Helm) -> None:
    def sorted_by_name(rendered: Objects) -> list[Json]:
        return sorted(rendered, key=lambda it: (it["kind"], it["metadata"]["name"]))

    assert sorted_by_name(helm.render(EVERYTHING, crds=True)) == sorted_by_name(each_helm.render(EVERYTHING, crds=True))
