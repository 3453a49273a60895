"""The rights of the operator, which are exactly files/rules.yaml, and the roles for people."""

import pytest
import yaml

from hack.repository import RULES
from tests.support.chart import Helm, Json, Objects

AGGREGATED = "rbac.authorization.k8s.io/aggregate-to-"
READ = {"get", "list", "watch"}
GROUPS = {"leases": "coordination.k8s.io", "pods": "", "pods/portforward": ""}
CHANGE = {"create", "update", "patch", "delete", "deletecollection"}


def user_roles(rendered: Objects) -> dict[str, Json]:
    """By the last part of their names."""
    return {role["metadata"]["name"].rpartition(":")[2]: role for role in rendered.of("ClusterRole")}


def rights(role: Json) -> dict[str, set[str]]:
    """Resource → verbs."""
    groups = {resource: rule["apiGroups"] for rule in role["rules"] for resource in rule["resources"]}
    assert groups == {resource: [GROUPS.get(resource, "embeddings.yellowbook.dev")] for resource in groups}
    return {resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]}


def test_the_operators_role_has_exactly_the_rules_of_the_file(helm: Helm) -> None:
    rendered = helm.render()
    assert rendered.one("Role")["rules"] == yaml.safe_load(RULES.read_text())
    binding = rendered.one("RoleBinding")
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": rendered.one("Role")["metadata"]["name"],
    }
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": rendered.pod()["serviceAccountName"], "namespace": "yellow-book"}
    ]


def test_it_has_no_right_in_the_cluster(helm: Helm) -> None:
    assert helm.render().of("ClusterRoleBinding") == []


def test_role_and_binding_can_be_left_out(helm: Helm) -> None:
    rendered = helm.render({"rbac": {"create": False}})
    assert (rendered.of("Role"), rendered.of("RoleBinding")) == ([], [])
    assert len(rendered.of("ServiceAccount")) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("job-viewer", {"embeddingjobs": READ, "embeddingjobs/status": {"get"}}),
        ("job-editor", {"embeddingjobs": READ | CHANGE, "embeddingjobs/status": {"get"}}),
        ("job-replayer", {"embeddingjobs": READ | {"delete"}, "embeddingjobs/status": {"get", "patch"}}),
        (
            "row-explainer",
            {"embeddingjobs": READ, "leases": {"get"}, "pods": {"get", "list"}, "pods/portforward": {"get", "create"}},
        ),
        ("source-viewer", {"embeddingsources": READ, "embeddingsources/status": {"get"}, "leases": {"get"}}),
        ("source-editor", {"embeddingsources": READ | CHANGE, "embeddingsources/status": {"get"}}),
    ],
)
def test_a_role_for_people_grants(helm: Helm, name: str, expected: dict[str, set[str]]) -> None:
    assert rights(user_roles(helm.render())[name]) == expected


def test_jobs_go_to_view_and_edit_and_sources_to_admin_only(helm: Helm) -> None:
    found = {
        name: {label.removeprefix(AGGREGATED) for label in role["metadata"]["labels"] if label.startswith(AGGREGATED)}
        for name, role in user_roles(helm.render()).items()
    }
    assert found == {
        "job-viewer": {"view", "edit", "admin"},
        "job-editor": {"edit", "admin"},
        "job-replayer": {"edit", "admin"},
        "row-explainer": {"edit", "admin"},
        "source-viewer": {"admin"},
        "source-editor": {"admin"},
    }


@pytest.mark.parametrize("role", ["row-explainer", "source-viewer"])
def test_of_all_leases_only_the_operators_own_is_named(helm: Helm, role: str) -> None:
    rules = user_roles(helm.render())[role]["rules"]
    assert [rule["resourceNames"] for rule in rules if "leases" in rule["resources"]] == [["embedding-operator"]]


def test_their_names_contain_release_and_namespace(helm: Helm) -> None:
    names = {role["metadata"]["name"] for role in helm.render(release="search", namespace="blue").of("ClusterRole")}
    assert {name.rpartition(":")[0] for name in names} == {"search-embedding-operator:blue"}


def test_roles_for_people_can_be_left_out(helm: Helm) -> None:
    rendered = helm.render({"rbac": {"userRoles": {"create": False}}})
    assert rendered.of("ClusterRole") == []
    assert len(rendered.of("Role")) == 1
