"""What the operator's service account may do, with its own token: all of the chart's rules.yaml, and nothing else."""

import asyncio
import json
from collections.abc import Iterator

import pytest
import yaml

from embedding_operator.api_server import ApiServer
from embedding_operator.resources import GROUP, JOBS, SOURCES
from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.installation import ACCOUNT, RULES
from tests.integration.api_server.conftest import Namespace
from tests.support.manifests import Json, a_job, a_source
from tests.support.plain_requests import PlainRequests, plain_requests

Rule = tuple[str, str, str]
"""Verb, API group and resource; the resource with its subresource, as in a Role."""


def single_rules(rules: list[Json]) -> Iterator[Rule]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                names = rule.get("resourceNames") or [""]
                for verb in rule["verbs"]:
                    yield from ((verb, group, f"{resource}{'#' if name else ''}{name}") for name in names)


GRANTED = sorted(single_rules(yaml.safe_load(RULES.read_text())))

RBAC = "rbac.authorization.k8s.io"
FORBIDDEN: list[Rule] = [
    *((verb, GROUP, SOURCES) for verb in ("create", "update", "patch", "delete", "deletecollection")),
    *(("update", GROUP, resource) for resource in (JOBS, f"{JOBS}/status", f"{SOURCES}/status")),
    *((verb, "", "secrets") for verb in ("get", "list", "watch", "create")),
    *((verb, "", "configmaps") for verb in ("get", "list", "create")),
    *((verb, "", "pods") for verb in ("get", "list", "create", "delete")),
    *(("create", "", resource) for resource in ("pods/exec", "serviceaccounts", "serviceaccounts/token")),
    ("get", "", "pods/log"),
    ("impersonate", "", "serviceaccounts"),
    *((verb, RBAC, "roles") for verb in ("get", "create", "patch", "escalate", "bind")),
    ("create", RBAC, "rolebindings"),
    ("patch", "apps", "deployments"),
]
FORBIDDEN_IN_THE_CLUSTER: list[Rule] = [
    *((verb, "", "namespaces") for verb in ("get", "list", "create", "delete")),
    *((verb, "", "nodes") for verb in ("get", "list")),
    *((verb, "apiextensions.k8s.io", "customresourcedefinitions") for verb in ("get", "list", "create", "patch")),
    ("create", RBAC, "clusterroles"),
    ("list", GROUP, JOBS),
    ("list", GROUP, SOURCES),
    ("watch", GROUP, JOBS),
]


async def may(operator: PlainRequests, rule: Rule, *, namespace: str) -> bool:
    """What the API server itself says of it; no namespace stands for the whole cluster."""
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
    """Everything that this user may do in its namespace."""
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
async def test_it_is_refused_in_its_own_namespace(operator: PlainRequests, namespace: Namespace, rule: Rule) -> None:
    assert not await may(operator, rule, namespace=namespace.name)


@pytest.mark.parametrize("rule", FORBIDDEN_IN_THE_CLUSTER, ids=" ".join)
async def test_it_is_refused_in_the_cluster(operator: PlainRequests, rule: Rule) -> None:
    assert not await may(operator, rule, namespace="")


@pytest.mark.parametrize("rule", GRANTED, ids=" ".join)
async def test_no_right_reaches_into_another_namespace(operator: PlainRequests, rule: Rule) -> None:
    assert not await may(operator, rule, namespace="default")


async def test_it_may_do_nothing_else_than_any_account(
    operator: PlainRequests, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    namespace.kubectl.run("create", "serviceaccount", "anybody")
    kubeconfig = service_account_kubeconfig(
        namespace.admin_kubeconfig,
        namespace.name,
        "anybody",
        tmp_path_factory.mktemp("anybody") / "kubeconfig",
        kubectl=namespace.kubectl.cluster.kubectl,
    )
    async with plain_requests(kubeconfig, namespace.name) as anybody:
        assert await all_rules(operator) - await all_rules(anybody) == set(GRANTED)


async def test_the_account_is_the_one_of_the_installation(operator: PlainRequests, namespace: Namespace) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await operator.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert answer.body["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace.name}:{ACCOUNT}"


async def test_the_operators_own_client_can_do_all_that_it_does(
    admin: PlainRequests, operator_server: ApiServer, name: str
) -> None:
    await admin.create(SOURCES, a_source(name))
    assert name in {source["metadata"]["name"] for source in await operator_server.sources()}
    await operator_server.patch_source_status(name, {"observedGeneration": 1})
    created = await operator_server.create_job(a_job(name, labels={"of": name}))
    await operator_server.patch_job_status(name, {"phase": "Retrying"})
    assert (await operator_server.job(name))["status"]["phase"] == "Retrying"
    await operator_server.annotate_job(name, {TOUCHED_ANNOTATION: "now"})
    assert (await operator_server.job(name))["metadata"]["annotations"] == {TOUCHED_ANNOTATION: "now"}
    await operator_server.delete_job(name, uid=created["metadata"]["uid"])
    await operator_server.create_job(a_job(name, labels={"of": name}))
    await operator_server.delete_jobs(labels=f"of={name}")
    assert name not in {job["metadata"]["name"] for job in await operator_server.jobs()}


@pytest.mark.parametrize("resource", [SOURCES, JOBS])
async def test_it_can_watch_what_it_lists(
    admin: PlainRequests, operator_server: ApiServer, name: str, resource: str
) -> None:
    manifest = a_source(name) if resource == SOURCES else a_job(name)
    parameters = {"watch": "true", "fieldSelector": f"metadata.name={name}"}
    session = operator_server.new_session(limit=1)
    async with session, session.get(operator_server.host + admin.path(resource), params=parameters) as events:
        assert events.status == 200
        assert (await admin.create(resource, manifest)).accepted
        async with asyncio.timeout(10):
            event = json.loads(await events.content.readline())
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", name)


async def test_a_sources_spec_cannot_be_written_through_its_status(
    admin: PlainRequests, operator: PlainRequests, name: str
) -> None:
    await admin.create(SOURCES, a_source(name))
    path = operator.path(SOURCES, name, "status")
    answer = await operator.request("PATCH", path, {"spec": {"suspend": True}})
    assert answer.accepted, answer.message
    assert (await admin.get(SOURCES, name)).body["spec"]["suspend"] is False


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/namespaces/{namespace}/secrets", None),
        ("GET", "/api/v1/namespaces", None),
        ("GET", "/apis/embeddings.yellowbook.dev/v1alpha1/namespaces/default/embeddingjobs", None),
        ("GET", "/apis/embeddings.yellowbook.dev/v1alpha1/embeddingjobs", None),
        ("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", None),
        ("DELETE", "/apis/embeddings.yellowbook.dev/v1alpha1/namespaces/{namespace}/embeddingsources", None),
        (
            "PATCH",
            "/apis/embeddings.yellowbook.dev/v1alpha1/namespaces/{namespace}/embeddingsources/any",
            {"spec": {"suspend": True}},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_request_beyond_its_rights_is_forbidden(
    operator: PlainRequests, method: str, path: str, body: Json | None
) -> None:
    answer = await operator.request(method, path.format(namespace=operator.namespace), body)
    assert answer.status == 403
    assert f"system:serviceaccount:{operator.namespace}:{ACCOUNT}" in answer.message
