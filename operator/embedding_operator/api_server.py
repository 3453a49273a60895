"""The requests that we make to the Kubernetes API server, and their errors by reaction.

Requests use a plain aiohttp session (api_access/session.py), because building a client's models for each answer costs more than
the request. kopf gets the same kind of session.
"""

import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Self

import aiohttp

from embedding_operator.api_access.access import AccessRefused
from embedding_operator.api_access.credentials import Credentials
from embedding_operator.api_access.event_stream import CHANGES, watch_events
from embedding_operator.api_access.kubeconfig import read_kubeconfig
from embedding_operator.api_access.pod import pod_access
from embedding_operator.api_access.session import (
    Connections,
    new_session,
    proxy_for,
    reason_unreachable,
    wait_for_resources,
)
from embedding_operator.api_errors import (
    AlreadyExists,
    ApiServerUnavailable,
    ApiServerUnreachable,
    ApiServerUnusable,
    Gone,
    reaction_to,
)
from embedding_operator.resources import EVENTS, EVENTS_GROUP, GROUP, JOBS, SOURCES, VERSION
from embedding_operator.rights import Right
from embedding_operator.settings import Settings
from embedding_worker.clock import SystemClock

Json = dict[str, Any]
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
PAGE = 500
LEASES, LEASE_TIMEOUT_S = "coordination.k8s.io/v1", 3.0


class ApiServer:
    """A client for one namespace. Every method raises ApiServerUnavailable, and what else its docstring says."""

    def __init__(self, credentials: Credentials, namespace: str, *, proxy: str | None) -> None:
        self._credentials = credentials
        self._proxy = proxy
        self.namespace = namespace
        self.host = credentials.access.host
        self.cluster = credentials.access.cluster
        """What the cluster is recognized by, as it was at the beginning of the process."""
        self._connections = Connections()
        self._session = self.new_session(limit=32)
        self._session_to_ask = self.new_session(limit=1)
        self._session_for_leases = self.new_session(limit=2)

    @classmethod
    async def connected(cls, settings: Settings) -> Self:
        """Connect by KUBECONFIG where it is set, else by the pod's service account. Raises ApiServerUnusable."""
        paths = settings.kubeconfig
        where = f"KUBECONFIG is {str(paths)!r}" if paths else "KUBECONFIG is not set"
        try:
            read = partial(read_kubeconfig, str(paths)) if paths else pod_access
            credentials = Credentials(read, clock=SystemClock())
            await credentials.refresh()
        except AccessRefused as exc:
            raise ApiServerUnusable(f"{where}, and {exc}") from exc
        access = credentials.access
        proxy = proxy_for(access.host, configured=access.proxy, in_pod=paths is None)
        return cls(credentials, settings.namespace or access.namespace or "default", proxy=proxy)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for session in (self._session, self._session_to_ask, self._session_for_leases):
            await session.close()

    def new_session(self, *, limit: int, patient: bool = False) -> aiohttp.ClientSession:
        """A session of at most so many connections, each of whose requests has the credentials in force.

        In a patient one, a resource that is not there is an interrupted connection, because it may be installed later.
        """
        middlewares = (wait_for_resources,) if patient else ()
        return new_session(
            self._credentials, self._connections, limit=limit, proxy=self._proxy, middlewares=middlewares
        )

    def abort_connections(self) -> None:
        """End the connections of all sessions: after an outage, those that were open before may never answer again.

        Requests that wait for an answer raise ApiServerUnreachable. kopf continues its watches on new connections.
        """
        self._connections.abort()

    async def answer(self, *, within_s: float) -> None:
        """Return when the server has answered a small request. Raises ApiServerError if it refuses, or if time runs out."""
        timeout = aiohttp.ClientTimeout(total=within_s)
        # On a connection of its own: all others may be taken by requests that are never answered.
        with_limit = {"params": {"limit": "1"}, "timeout": timeout, "session": self._session_to_ask}
        await self._to_collection("GET", JOBS, **with_limit)

    def _url(self, resource: str, name: str = "", subresource: str = "") -> str:
        parts = [self.host, "apis", GROUP, VERSION, "namespaces", self.namespace, resource, name, subresource]
        return "/".join(part for part in parts if part)

    async def _request(self, method: str, url: str, **kwargs: Any) -> Json:
        body = await self._send(method, url, **kwargs)
        return json.loads(body) if body else {}

    async def _send(self, method: str, url: str, session: aiohttp.ClientSession | None = None, **kwargs: Any) -> bytes:
        """The answer as it came: of a deletion it contains every object that was deleted, and nobody reads it."""
        try:
            async with (session or self._session).request(method, url, **kwargs) as response:
                body = await response.read()
                if response.status < 300:
                    return body
                raise reaction_to(response.status, body, response.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError) as exc:
            never_sent = isinstance(exc, aiohttp.ClientConnectorError)
            message = f"the API server cannot be reached ({reason_unreachable(exc)})"
            raise ApiServerUnreachable(message, may_have_happened=not never_sent) from exc

    async def _to_collection(self, method: str, resource: str, **kwargs: Any) -> Json:
        """A request that names no object: if it is not found, the whole resource is missing, and may be installed later."""
        try:
            return await self._request(method, self._url(resource), **kwargs)
        except Gone as exc:
            message = f"the API server has no {resource}.{GROUP} in {self.namespace}: install the CRDs ({exc})"
            raise ApiServerUnavailable(message) from exc

    async def _list(self, resource: str, **selectors: str) -> list[Json]:
        """All objects, in pages, so that neither side holds a long answer in memory."""
        items: list[Json] = []
        params = {"limit": str(PAGE), **selectors}
        while True:
            page = await self._to_collection("GET", resource, params=params)
            items += page["items"]
            if not (following := page["metadata"].get("continue")):
                return items
            params["continue"] = following

    async def version(self) -> Json:
        """The server's version: `major`, `minor`, `gitVersion`."""
        return await self._request("GET", f"{self.host}/version")

    async def served_versions(self) -> list[str]:
        """The versions in which our API group is served. Raises Gone where it is not served."""
        group = await self._request("GET", f"{self.host}/apis/{GROUP}")
        return [version["version"] for version in group["versions"]]

    async def served_resources(self) -> set[str]:
        """The resources and subresources of the version that this operator uses. Raises Gone."""
        found = await self._request("GET", f"{self.host}/apis/{GROUP}/{VERSION}")
        return {resource["name"] for resource in found["resources"]}

    async def may(self, right: Right) -> bool:
        """Whether this account has the right in this namespace. Every account may ask the server for that."""
        url = f"{self.host}/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool((await self._request("POST", url, json=right.review(self.namespace)))["status"]["allowed"])

    async def own_namespace(self) -> Json:
        """Raises Gone where the namespace does not exist, RequestRefused where this account may not read it."""
        return await self._request("GET", f"{self.host}/api/v1/namespaces/{self.namespace}")

    async def selects_by(self, fields: str) -> None:
        """List at most one job by these fields. Raises RequestRefused where jobs cannot be selected by them."""
        await self._request("GET", self._url(JOBS), params={"limit": "1", "fieldSelector": fields})

    async def sources(self) -> list[Json]:
        return await self._list(SOURCES)

    async def sources_now(self) -> tuple[list[Json], str]:
        """All sources, and the version from which `watch_sources` continues."""
        listed = await self._to_collection("GET", SOURCES)
        return listed["items"], listed["metadata"]["resourceVersion"]

    def watch_sources(self, version: str, *, within_s: float) -> AsyncIterator[Json]:
        """The changes of sources since this version, for so long, each with a `type` and an `object`."""
        return watch_events(self._session, self._url(SOURCES), {"resourceVersion": version}, within_s=within_s)

    async def jobs(self) -> list[Json]:
        return await self._list(JOBS)

    async def job(self, name: str) -> Json:
        """Raises Gone."""
        return await self._request("GET", self._url(JOBS, name))

    async def create_job(self, manifest: Json) -> int:
        """Returns the new job's resource version. Raises AlreadyExists or RequestRefused."""
        return version_of(await self._to_collection("POST", JOBS, json=manifest))

    async def delete_job(self, name: str, *, uid: str) -> None:
        """Delete the job with this uid, and no later one of its name. Raises Gone."""
        try:
            await self._send("DELETE", self._url(JOBS, name), json={"preconditions": {"uid": uid}})
        except AlreadyExists as exc:  # a failed precondition is a 409 too
            raise Gone(str(exc)) from exc

    async def delete_jobs(self, *, labels: str = "", fields: str = "") -> None:
        """Delete all jobs that both selectors match, in one request. Without any selector all jobs would be deleted."""
        if not labels and not fields:
            raise ValueError("a selector is needed to delete jobs")
        params = {"labelSelector": labels, "fieldSelector": fields}
        await self._send("DELETE", self._url(JOBS), params=params)

    async def to_worker_jobs(self, method: str, name: str = "", body: Json | None = None) -> Json:
        """A request to the Jobs of Kubernetes (batch/v1), or to one. Raises Gone, AlreadyExists or RequestRefused."""
        parts = [self.host, "apis/batch/v1/namespaces", self.namespace, "jobs", name]
        return await self._request(method, "/".join(filter(None, parts)), json=body)

    def _lease_url(self, name: str = "") -> str:
        return f"{self.host}/apis/{LEASES}/namespaces/{self.namespace}/leases/{name}".rstrip("/")

    async def lease(self, name: str) -> Json:
        """Raises Gone."""
        return await self._request("GET", self._lease_url(name), **self._for_leases)

    async def put_lease(self, name: str, spec: Json, *, version: str | None) -> Json:
        """Create the Lease (`version` None), or replace its spec. Raises AlreadyExists if it is of another version, and Gone."""
        metadata = {"name": name} | ({} if version is None else {"resourceVersion": version})
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        method, url = ("POST", self._lease_url()) if version is None else ("PUT", self._lease_url(name))
        return await self._request(method, url, json=lease, **self._for_leases)

    async def watch_lease(self, name: str, version: str, *, within_s: float) -> AsyncIterator[Json]:
        """The Lease, each time that it changes, for so long. Ends early where it is deleted or the version is too old."""
        selected = {"fieldSelector": f"metadata.name={name}", "resourceVersion": version}
        events = watch_events(self._session_for_leases, self._lease_url(), selected, within_s=within_s)
        async for event in events:
            if event["type"] not in CHANGES:
                return
            yield event["object"]

    @property
    def _for_leases(self) -> dict[str, Any]:
        """On connections of their own, and not for long: a Lease that is not renewed in time is lost."""
        return {"session": self._session_for_leases, "timeout": aiohttp.ClientTimeout(total=LEASE_TIMEOUT_S)}

    async def _patch(self, url: str, body: Json) -> Json:
        try:
            return await self._request("PATCH", url, headers=MERGE_PATCH, data=json.dumps(body))
        except AlreadyExists as exc:  # a conflict with another write: the same patch again
            raise ApiServerUnavailable(str(exc), retry_after_s=0.1) from exc

    async def patch_job_status(self, name: str, status: Json, *, version: int | None = None) -> int:
        """Returns the new version. `version`: only if it is that one still. Raises Gone, or RequestRefused by a rule."""
        body = {"status": status} | ({} if version is None else {"metadata": {"resourceVersion": str(version)}})
        return version_of(await self._patch(self._url(JOBS, name, "status"), body))

    async def annotate_job(self, name: str, annotations: Mapping[str, str | None]) -> None:
        """Set annotations, and remove those that are None. Raises Gone or RequestRefused."""
        await self._patch(self._url(JOBS, name), {"metadata": {"annotations": dict(annotations)}})

    async def create_event(self, manifest: Json) -> None:
        """Raises RequestRefused."""
        url = f"{self.host}/apis/{EVENTS_GROUP}/v1/namespaces/{self.namespace}/{EVENTS}"
        await self._send("POST", url, json=manifest)

    async def patch_source_status(self, name: str, status: Json) -> Json:
        """Returns the status as it is stored now. Raises Gone or RequestRefused."""
        stored: Json = (await self._patch(self._url(SOURCES, name, "status"), {"status": status})).get("status", {})
        return stored


def version_of(body: Json) -> int:
    """The resource version of an object, as a number."""
    return int(body["metadata"]["resourceVersion"])
