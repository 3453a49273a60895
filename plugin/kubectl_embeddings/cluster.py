"""The requests that the verbs send to the API server, as the user of a kubeconfig.

Made by user_connection.py. A request that was not answered is sent again, at most twice: none of them does harm when it is
repeated.
"""

import json
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import aiohttp

from embedding_operator.api_access.session import reason_unreachable
from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnreachable, Gone, Unauthorized, reaction_to
from embedding_operator.resources import GROUP, JOBS, SOURCES, VERSION
from embedding_operator.resources.embedding_source import RECONCILE_ANNOTATION
from embedding_worker.clock import Clock
from kubectl_embeddings import pod_tunnel
from kubectl_embeddings.failures import NotFound
from kubectl_embeddings.given_values import check_name
from kubectl_embeddings.pod_tunnel import Answer
from kubectl_embeddings.shown_commands import BARE, Commands

Json = dict[str, Any]
ATTEMPTS, LONGEST_PAUSE_S = 3, 5.0
EXPIRED = 410
LISTS = 3
"""How often a list is begun, if the API server forgets it before its last page."""
PAGE = "500"
WATCH_ENDS_WITHIN_S = 10.0
"""After the time that was asked for: then the API server is away, even if the connection is not closed."""
LONGEST_EVENT_BYTES = 2**20
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
KINDS = {SOURCES: "EmbeddingSource", JOBS: "EmbeddingJob"}


class VersionExpired(Exception):
    """The API server no longer knows what has changed since a version: everything has to be listed again."""


class ListExpired(ApiServerUnavailable):
    """The next page of a list cannot be had any more: the list is begun again."""


class Requests(Protocol):
    """What the verbs need of a cluster. Every method raises ApiServerError, and those that name an object NotFound."""

    namespace: str
    commands: Commands
    """Forms commands that reach the same cluster and namespace."""

    async def sources(self) -> list[Json]: ...
    async def sources_at(self) -> tuple[list[Json], str]: ...
    def watch_sources(self, version: str, *, within_s: float) -> AsyncIterator[Json]: ...
    async def source(self, name: str) -> Json: ...
    async def jobs(self, at_most: int | None = None, /, **fields: str) -> list[Json]: ...
    async def job(self, name: str) -> Json: ...
    async def patch_source(self, name: str, patch: Json) -> Json: ...
    async def set_phase(self, job: str, phase: str) -> Json: ...
    async def read(self, path: str, **params: str) -> Json: ...
    async def read_text(self, path: str, **params: str) -> str: ...
    async def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> Answer: ...


class Cluster:
    """One namespace of a cluster; or all of them, of which there are only lists, where the namespace is empty."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        host: str,
        namespace: str,
        *,
        clock: Clock,
        commands: Commands = BARE,
    ) -> None:
        self.host = host
        self.namespace = namespace
        self.commands = commands
        self._session = session
        self._base = f"{host}/apis/{GROUP}/{VERSION}" + (f"/namespaces/{namespace}" if namespace else "")
        self._clock = clock

    async def sources(self) -> list[Json]:
        return (await self.sources_at())[0]

    async def sources_at(self) -> tuple[list[Json], str]:
        """All sources, and the version since which changes can be watched."""
        return await self._list_at(SOURCES)

    async def watch_sources(self, version: str, *, within_s: float) -> AsyncIterator[Json]:
        """What changes after this version, for so long: `type` (ADDED, MODIFIED, DELETED or BOOKMARK) and `object`.

        Raises VersionExpired and ApiServerError.
        """
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(round(within_s))}
        timeout = aiohttp.ClientTimeout(total=within_s + WATCH_ENDS_WITHIN_S)
        try:
            async with self._session.get(
                f"{self._base}/{SOURCES}",
                params=params | {"allowWatchBookmarks": "true"},
                timeout=timeout,
                read_bufsize=LONGEST_EVENT_BYTES,
            ) as response:
                if response.status >= 300:
                    raise _refused(response.status, await response.read())
                async for line in response.content:
                    if not line.endswith(b"\n"):
                        raise ApiServerUnreachable("the API server cannot be reached (the connection was lost)")
                    event = self._decoded(line, {"type": str, "object": dict})
                    if event["type"] == "ERROR":
                        raise _refused(event["object"].get("code", 500), json.dumps(event["object"]).encode())
                    yield event
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise _unreachable(exc) from exc

    async def source(self, name: str) -> Json:
        return await self._to_object("GET", SOURCES, name)

    async def jobs(self, at_most: int | None = None, /, **fields: str) -> list[Json]:
        """All jobs, or those with these fields: `source`, `id`, `phase`; `at_most` ends after the page that reaches it."""
        paths = {"source": "spec.sourceRef.name", "id": "spec.businessId", "phase": "status.phase"}
        selector = ",".join(f"{paths[name]}={escaped(value)}" for name, value in fields.items())
        return (await self._list_at(JOBS, at_most, **({"fieldSelector": selector} if selector else {})))[0]

    async def job(self, name: str) -> Json:
        return await self._to_object("GET", JOBS, name)

    async def patch_source(self, name: str, patch: Json) -> Json:
        return await self._to_object("PATCH", SOURCES, name, patch)

    async def set_phase(self, job: str, phase: str) -> Json:
        return await self._to_object("PATCH", JOBS, f"{job}/status", {"status": {"phase": phase}})

    async def _list_at(self, resource: str, at_most: int | None = None, **params: str) -> tuple[list[Json], str]:
        for _ in range(LISTS):
            try:
                return await self._pages(resource, at_most, params | {"limit": PAGE})
            except Gone as exc:
                raise NotFound(
                    f"the API server has no {resource}.{GROUP}: install the CRDs, or name another cluster with --context"
                ) from exc
            except ListExpired as exc:
                expired = exc
        raise ApiServerUnavailable(
            f"the list of {resource} was {LISTS} times too old before it was read to its end ({expired}): try again when the "
            "connection is faster"
        ) from expired

    async def _pages(self, resource: str, at_most: int | None, params: dict[str, str]) -> tuple[list[Json], str]:
        items: list[Json] = []
        while True:
            page = await self._request("GET", resource, form={"items": list, "metadata": dict}, params=params)
            items += page["items"]
            following = page["metadata"].get("continue")
            if not following or (at_most is not None and len(items) >= at_most):
                return items[:at_most], page["metadata"]["resourceVersion"]
            params["continue"] = following

    async def _to_object(self, method: str, resource: str, name: str, patch: Json | None = None) -> Json:
        check_name(name.partition("/")[0], KINDS[resource])
        body = {} if patch is None else {"data": json.dumps(patch), "headers": MERGE_PATCH}
        try:
            return await self._request(method, f"{resource}/{name}", form={"metadata": dict}, **body)
        except Gone as exc:
            what = f"{KINDS[resource]} {name.partition('/')[0]}"
            raise NotFound(
                f"namespace {self.namespace} has no {what}: correct the name, or name another namespace with -n"
            ) from exc

    async def read(self, path: str, **params: str) -> Json:
        """Any other object, or one page of a list, by its path."""
        return self._decoded(await self._read(path, **params))

    async def read_text(self, path: str, **params: str) -> str:
        """What is no JSON, such as the log of a pod."""
        return (await self._read(path, **params)).decode(errors="replace")

    async def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> Answer:
        """GET this path from a port of the pod. Raises PodSilent."""
        url = f"{self.host}/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        return await pod_tunnel.ask(self._session, url, port, path)

    async def _read(self, path: str, **params: str) -> bytes:
        try:
            return await self._repeated("GET", f"{self.host}/{path}", params=params)
        except Gone as exc:
            raise NotFound(f"the API server has no {path}") from exc

    async def _request(self, method: str, path: str, *, form: Mapping[str, type], **kwargs: Any) -> Json:
        return self._decoded(await self._repeated(method, f"{self._base}/{path}", **kwargs), form)

    def _decoded(self, content: bytes, form: Mapping[str, type] = MappingProxyType({})) -> Json:
        """An object of JSON that has these fields. Raises ApiServerUnreachable: what has answered is no API server."""
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if isinstance(body, dict) and all(isinstance(body.get(field), kind) for field, kind in form.items()):
            return body
        raise ApiServerUnreachable(
            f"{self.host} has answered{' no JSON' if body is None else ', but not as an API server does'}: a login page or "
            "another server may be in its place"
        )

    async def _repeated(self, method: str, url: str, **kwargs: Any) -> bytes:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._send(method, url, **kwargs)
            except ApiServerUnavailable as exc:
                if attempt == ATTEMPTS or isinstance(exc, Unauthorized | ListExpired):
                    raise
                await self._clock.sleep(min(exc.retry_after_s, LONGEST_PAUSE_S))
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, method: str, url: str, **kwargs: Any) -> bytes:
        try:
            async with self._session.request(method, url, **kwargs) as response:
                content = await response.read()
                if response.status >= 300:
                    reaction = reaction_to(response.status, content, response.headers.get("Retry-After"))
                    raise ListExpired(str(reaction)) if response.status == EXPIRED else reaction
                return content
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise _unreachable(exc) from exc


def _unreachable(exc: Exception) -> ApiServerUnreachable:
    return ApiServerUnreachable(f"the API server cannot be reached ({reason_unreachable(exc)})")


def _refused(status: int, body: bytes) -> Exception:
    return VersionExpired() if status == EXPIRED else reaction_to(status, body, None)


def escaped(value: str) -> str:
    """A value as a field selector needs it."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def changed_annotation(token: str) -> Json:
    """The patch of a source that requests a sweep and an audit."""
    return {"metadata": {"annotations": {RECONCILE_ANNOTATION: token}}}
