"""Sends plain HTTP requests to the API server, in one namespace, as the user of a kubeconfig. A refusal raises no exception.

Called by tests of the CRDs and of rights. They use the operator's connection settings, and nothing else of its API client.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedding_operator.api_server import MERGE_PATCH, ApiServer
from embedding_operator.resources import GROUP, VERSION
from embedding_operator.settings import Settings, settings_from

Json = dict[str, Any]
GROUP_PATH = f"/apis/{GROUP}/{VERSION}"


def settings_for(kubeconfig: Path, namespace: str) -> Settings:
    """Settings of the operator with this cluster, and with a database that does not exist."""
    return settings_from(
        {
            "DATABASE_URL": "postgresql://user@192.0.2.1/unused",
            "KUBECONFIG": str(kubeconfig),
            "EMBEDDING_NAMESPACE": namespace,
        }
    )


@dataclass(frozen=True)
class Answer:
    status: int
    body: Json

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        """The server's message, which includes its list of causes."""
        return str(self.body.get("message", ""))


class PlainRequests:
    def __init__(self, server: ApiServer) -> None:
        self._host = server.host
        self._session = server.new_session(limit=8)
        self.namespace = server.namespace

    async def close(self) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, body: Json | None = None, **parameters: str) -> Answer:
        """Send a request to a path of the API server."""
        headers = MERGE_PATCH if method == "PATCH" else {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method, self._host + path, data=data, headers=headers, params=parameters
        ) as response:
            return Answer(response.status, json.loads(await response.read()))

    def path(self, resource: str, name: str = "", subresource: str = "", *, namespace: str = "") -> str:
        parts = [GROUP_PATH, "namespaces", namespace or self.namespace, resource, name, subresource]
        return "/".join(part for part in parts if part)

    async def create(self, resource: str, manifest: Json, **parameters: str) -> Answer:
        return await self.request("POST", self.path(resource), manifest, **parameters)

    async def get(self, resource: str, name: str) -> Answer:
        return await self.request("GET", self.path(resource, name))

    async def names(self, resource: str, **selectors: str) -> set[str]:
        """The names of the objects that the selectors (labelSelector, fieldSelector) match."""
        answer = await self.request("GET", self.path(resource), None, **selectors)
        assert answer.accepted, answer.message
        return {item["metadata"]["name"] for item in answer.body["items"]}

    async def patch(self, resource: str, name: str, body: Json) -> Answer:
        return await self.request("PATCH", self.path(resource, name), body)

    async def patch_status(self, resource: str, name: str, status: object) -> Answer:
        return await self.request("PATCH", self.path(resource, name, "status"), {"status": status})


@asynccontextmanager
async def plain_requests(kubeconfig: Path, namespace: str) -> AsyncIterator[PlainRequests]:
    async with await ApiServer.connected(settings_for(kubeconfig, namespace)) as server:
        requests = PlainRequests(server)
        try:
            yield requests
        finally:
            await requests.close()
