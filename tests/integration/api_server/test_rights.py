"""The rights of the operator's service account, as the API server reports them: those of the chart's rules.yaml, and no others.

Account, Role and binding are those that the chart renders. The requests that need the rights are in test_rights_used.
"""

import pytest

from embedding_operator.lifecycle.lease import LEASE
from embedding_operator.resources import GROUP, JOBS, SOURCES
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.installation.prerequisites import ACCOUNT
from tests.integration.api_server.conftest import Namespace
from tests.support.plain_requests import PlainRequests, plain_requests
from tests.support.rights import EVENTS, GRANTED, LEASES, Rule, single_rules

RBAC = "rbac.authorization.k8s.io"
FORBIDDEN: list[Rule] = [
    *((verb, GROUP, SOURCES) for verb in ("create", "update", "patch", "delete", "deletecollection")),
    *(("update", GROUP, resource) for resource in (JOBS, f"{JOBS}/status", f"{SOURCES}/status")),
    *((verb, "", "secrets") for verb in ("get", "list", "watch", "create", "update", "patch", "delete")),
    *((verb, "", "configmaps") for verb in ("get", "list", "create", "update")),
    *((verb, "", "pods") for verb in ("get", "list", "create", "delete")),
    *((verb, group, "events") for verb in ("get", "list", "update", "delete") for group in ("", EVENTS)),
    # Of Leases, only the one of the release.
    *((verb, LEASES, "leases") for verb in ("get", "list", "watch", "update", "patch", "delete")),
    *((verb, LEASES, "leases#another") for verb in ("get", "watch", "update")),
    *((verb, LEASES, f"leases#{LEASE}") for verb in ("patch", "delete")),
    *(("create", "", resource) for resource in ("pods/exec", "serviceaccounts", "serviceaccounts/token")),
    ("get", "", "pods/log"),
    ("impersonate", "", "serviceaccounts"),
    *((verb, RBAC, "roles") for verb in ("get", "create", "patch", "escalate", "bind")),
    ("create", RBAC, "rolebindings"),
    *((verb, "apps", "deployments") for verb in ("get", "create", "patch")),
    ("create", "batch", "jobs"),
]
FORBIDDEN_IN_THE_CLUSTER: list[Rule] = [
    *((verb, "", "namespaces") for verb in ("get", "list", "create", "delete")),
    *((verb, "", "nodes") for verb in ("get", "list")),
    *(
        (verb, "apiextensions.k8s.io", "customresourcedefinitions")
        for verb in ("get", "list", "create", "patch", "delete")
    ),
    *(("create", RBAC, resource) for resource in ("clusterroles", "clusterrolebindings")),
    ("create", "admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("list", "", "secrets"),
    ("list", GROUP, JOBS),
    ("list", GROUP, SOURCES),
    ("watch", GROUP, JOBS),
]


@pytest.fixture(scope="module")
def namespace(rendered_namespace: Namespace) -> Namespace:
    return rendered_namespace


async def may(operator: PlainRequests, rule: Rule, *, namespace: str) -> bool:
    """Whether the API server reports this right in the namespace; an empty namespace stands for the whole cluster."""
    verb, group, resource = rule
    kind, _, subresource = resource.partition("/")
    kind, _, name = kind.partition("#")
    attributes = {
        "verb": verb,
        "group": group,
        "resource": kind,
        "subresource": subresource,
        "name": name,
        "namespace": namespace,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await operator.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert answer.accepted, answer.message
    return bool(answer.body["status"]["allowed"])


async def all_rules(requests: PlainRequests) -> set[Rule]:
    """All rights of this user in its namespace."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": requests.namespace},
    }
    answer = await requests.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    assert answer.accepted, answer.message
    return set(single_rules(answer.body["status"]["resourceRules"]))


@pytest.mark.parametrize("rule", GRANTED, ids=" ".join)
async def test_each_right_of_the_chart_is_granted(operator: PlainRequests, namespace: Namespace, rule: Rule) -> None:
    assert await may(operator, rule, namespace=namespace.name)


@pytest.mark.parametrize("rule", FORBIDDEN, ids=" ".join)
async def test_a_right_that_is_not_needed_is_not_granted_in_the_namespace(
    operator: PlainRequests, namespace: Namespace, rule: Rule
) -> None:
    assert not await may(operator, rule, namespace=namespace.name)


@pytest.mark.parametrize("rule", FORBIDDEN_IN_THE_CLUSTER, ids=" ".join)
async def test_a_right_in_the_cluster_is_not_granted(operator: PlainRequests, rule: Rule) -> None:
    assert not await may(operator, rule, namespace="")


@pytest.mark.parametrize("rule", GRANTED, ids=" ".join)
async def test_no_right_is_granted_in_another_namespace(operator: PlainRequests, rule: Rule) -> None:
    assert not await may(operator, rule, namespace="default")


async def test_the_rights_beyond_those_of_every_account_are_those_of_the_chart(
    operator: PlainRequests, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    namespace.kubectl.run("create", "serviceaccount", "another")
    kubeconfig = service_account_kubeconfig(
        namespace.admin_kubeconfig,
        namespace.name,
        "another",
        tmp_path_factory.mktemp("another") / "kubeconfig",
        kubectl=namespace.kubectl.cluster.kubectl,
    )
    async with plain_requests(kubeconfig, namespace.name) as another:
        assert await all_rules(operator) - await all_rules(another) == set(GRANTED)


async def test_requests_are_made_as_the_service_account_of_the_installation(
    operator: PlainRequests, namespace: Namespace
) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await operator.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert answer.body["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace.name}:{ACCOUNT}"
