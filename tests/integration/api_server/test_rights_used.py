"""Requests of the operator's service account, one for each right that the chart renders: each is accepted, and others are not.

What the API server reports of these rights is in test_rights.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from embedding_operator.api_errors import AlreadyExists, Gone
from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.lease import LEASE, held_by, parse_lease, released
from embedding_operator.resources import GROUP, JOBS, SOURCES
from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION
from hack.installation.prerequisites import ACCOUNT
from tests.integration.api_server.conftest import Namespace
from tests.support.manifests import Json, a_job, a_source
from tests.support.plain_requests import PlainRequests
from tests.support.rights import EVENTS, GRANTED, LEASES, Rule

IN_NAMESPACE = "/namespaces/{namespace}"
OUR_PATH, EVENTS_PATH = f"/apis/{GROUP}/v1alpha1{IN_NAMESPACE}", f"/apis/{EVENTS}/v1{IN_NAMESPACE}/events"
LEASES_PATH = f"/apis/{LEASES}/v1{IN_NAMESPACE}/leases"


def an_event(name: str) -> Json:
    return {
        "apiVersion": f"{EVENTS}/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "{namespace}"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Warning",
        "reason": "DeadLettered",
        "action": "Embed",
        "reportingController": "embedding-operator",
        "reportingInstance": "test",
        "regarding": {"kind": "EmbeddingJob", "name": name, "namespace": "{namespace}"},
    }


REQUESTS: dict[Rule, tuple[str, str, Json | None]] = {
    ("get", GROUP, SOURCES): ("GET", f"{OUR_PATH}/{SOURCES}/{{name}}", None),
    ("list", GROUP, SOURCES): ("GET", f"{OUR_PATH}/{SOURCES}", None),
    ("patch", GROUP, f"{SOURCES}/status"): (
        "PATCH",
        f"{OUR_PATH}/{SOURCES}/{{name}}/status",
        {"status": {"today": {}}},
    ),
    ("get", GROUP, JOBS): ("GET", f"{OUR_PATH}/{JOBS}/{{name}}", None),
    ("list", GROUP, JOBS): ("GET", f"{OUR_PATH}/{JOBS}", None),
    ("create", GROUP, JOBS): ("POST", f"{OUR_PATH}/{JOBS}", a_job("created-by-a-test")),
    ("patch", GROUP, JOBS): ("PATCH", f"{OUR_PATH}/{JOBS}/{{name}}", {"metadata": {"annotations": {"a": "b"}}}),
    ("delete", GROUP, JOBS): ("DELETE", f"{OUR_PATH}/{JOBS}/{{name}}", None),
    ("deletecollection", GROUP, JOBS): ("DELETE", f"{OUR_PATH}/{JOBS}?labelSelector=of={{name}}", None),
    ("patch", GROUP, f"{JOBS}/status"): ("PATCH", f"{OUR_PATH}/{JOBS}/{{name}}/status", {"status": {"attempts": 1}}),
    ("create", EVENTS, "events"): ("POST", EVENTS_PATH, an_event("created-by-a-test")),
    ("create", LEASES, "leases"): ("POST", LEASES_PATH, {"metadata": {"name": "created-by-a-test"}}),
}
"""A request for each right that needs it. Watches, and the rights on the Lease of the release, have tests of their own."""
OTHERS = [rule for rule in GRANTED if rule[0] != "watch" and "#" not in rule[2]]


@pytest.fixture(scope="module")
def namespace(rendered_namespace: Namespace) -> Namespace:
    return rendered_namespace


def test_every_right_has_a_request_that_needs_it() -> None:
    assert set(OTHERS) == set(REQUESTS)


@pytest.mark.parametrize("rule", OTHERS, ids=" ".join)
async def test_a_request_that_needs_a_granted_right_is_accepted(
    admin: PlainRequests, operator: PlainRequests, name: str, rule: Rule
) -> None:
    await admin.create(SOURCES, a_source(name))
    await admin.create(JOBS, a_job(name, labels={"of": name}))
    method, path, body = REQUESTS[rule]
    if body is not None:
        body = json.loads(json.dumps(body).replace("{namespace}", admin.namespace))
    answer = await operator.request(method, path.format(namespace=admin.namespace, name=name), body)
    assert answer.accepted, answer.message


async def test_every_request_of_the_operators_client_is_accepted(
    admin: PlainRequests, operator_server: ApiServer, name: str
) -> None:
    await admin.create(SOURCES, a_source(name))
    assert name in {source["metadata"]["name"] for source in await operator_server.sources()}
    await operator_server.patch_source_status(name, {"observedGeneration": 1})
    await operator_server.create_job(a_job(name, labels={"of": name}))
    await operator_server.patch_job_status(name, {"phase": "Retrying"})
    assert (await operator_server.job(name))["status"]["phase"] == "Retrying"
    await operator_server.annotate_job(name, {TOUCHED_ANNOTATION: "now"})
    assert (await operator_server.job(name))["metadata"]["annotations"] == {TOUCHED_ANNOTATION: "now"}
    await operator_server.delete_job(name, uid=(await operator_server.job(name))["metadata"]["uid"])
    await operator_server.create_job(a_job(name, labels={"of": name}))
    await operator_server.delete_jobs(labels=f"of={name}")
    assert name not in {job["metadata"]["name"] for job in await operator_server.jobs()}


async def test_the_lease_is_created_read_watched_renewed_and_released(operator_server: ApiServer) -> None:
    now = datetime.now(UTC)
    with pytest.raises(Gone):
        await operator_server.lease(LEASE)
    created = parse_lease(await operator_server.put_lease(LEASE, held_by("a", None, now), version=None))
    with pytest.raises(AlreadyExists):
        await operator_server.put_lease(LEASE, held_by("b", None, now), version=None)
    later = held_by("a", created, now + timedelta(seconds=3))
    renewed = parse_lease(await operator_server.put_lease(LEASE, later, version=created.version))
    with pytest.raises(AlreadyExists):  # it has changed since it was read
        await operator_server.put_lease(LEASE, held_by("b", created, now), version=created.version)
    await operator_server.put_lease(LEASE, released(renewed, now), version=renewed.version)
    watched = []
    async with asyncio.timeout(60):
        async for body in operator_server.watch_lease(LEASE, created.version, within_s=60):
            watched.append(parse_lease(body))
            if watched[-1].holder == "":
                break
    assert [lease.holder for lease in watched] == ["a", ""]
    assert parse_lease(await operator_server.lease(LEASE)) == watched[-1]
    async with asyncio.timeout(60):
        async for _ in operator_server.watch_lease(LEASE, watched[-1].version, within_s=1):
            pytest.fail("nothing has changed")  # and the watch ends by itself


@pytest.mark.parametrize("resource", [SOURCES, JOBS])
async def test_a_listed_resource_can_be_watched(
    admin: PlainRequests, operator_server: ApiServer, name: str, resource: str
) -> None:
    manifest = a_source(name) if resource == SOURCES else a_job(name)
    parameters = {"watch": "true", "fieldSelector": f"metadata.name={name}"}
    session = operator_server.new_session(limit=1)
    async with session, session.get(operator_server.host + admin.path(resource), params=parameters) as events:
        assert events.status == 200
        assert (await admin.create(resource, manifest)).accepted
        async with asyncio.timeout(60):
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
async def test_a_request_without_a_right_is_forbidden(
    operator: PlainRequests, method: str, path: str, body: Json | None
) -> None:
    answer = await operator.request(method, path.format(namespace=operator.namespace), body)
    assert answer.status == 403
    assert f"system:serviceaccount:{operator.namespace}:{ACCOUNT}" in answer.message
