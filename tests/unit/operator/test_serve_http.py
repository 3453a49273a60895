"""The HTTP server of `embedding-operator serve` bounds what clients can make it keep."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest

from embedding_operator.health import probes, served
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.serve import http_server
from embedding_operator.serve.http_server import SearchApi, Token
from embedding_operator.serve.messages import EmbeddingsRequest
from embedding_operator.serve.metrics import ServeMetrics
from embedding_operator.serve.packed_vectors import pack
from embedding_operator.serve.search_embedder import Embedded
from embedding_worker.clock import SystemClock
from tests.support.deadline import eventually

BODY = json.dumps({"model": "shops", "input": ["x"] * 32}).encode()
HEAD = f"POST /v1/embeddings HTTP/1.1\r\nHost: any\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
VECTOR = pack([0.123456789] * 3_072)


class Embedder:
    """Has all vectors already."""

    async def embed(self, asked: EmbeddingsRequest, sources: Mapping[str, EmbeddingSource]) -> Embedded:
        return Embedded([VECTOR] * len(asked.texts), list(asked.texts))


@asynccontextmanager
async def serving(metrics: ServeMetrics, *, most_connections: int = 512) -> AsyncIterator[int]:
    api = SearchApi(dict, Embedder(), token=Token(None), clock=SystemClock(), metrics=metrics)  # type: ignore[arg-type]
    app = api.application(probes(stuck=list, not_ready=list, metrics=metrics.page))
    async with served(app, 0, finishes_within_s=1.0, most_connections=most_connections) as port:
        yield port


async def connected(port: int) -> socket.socket:
    """A client that reads nothing unless it is told to."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    return made


async def status_of(port: int, path: str = "/v1/embeddings") -> int:
    async with aiohttp.ClientSession() as client:
        request = client.post if path.startswith("/v1") else client.get
        async with request(f"http://127.0.0.1:{port}{path}", data=BODY if path.startswith("/v1") else None) as answer:
            await answer.read()
            return answer.status


async def test_an_answer_that_is_not_read_counts_as_a_request_and_its_connection_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "MOST_REQUESTS", 2)
    monkeypatch.setattr(http_server, "WRITTEN_WITHIN_S", 12.0)
    metrics = ServeMetrics()
    async with serving(metrics) as port:
        clients = [await connected(port) for _ in range(2)]
        for client in clients:
            await asyncio.get_running_loop().sock_sendall(client, HEAD + BODY)
        await eventually(
            lambda: b"requests_in_flight 2.0" in metrics.page(), within_s=30, because="both have been asked"
        )
        assert await status_of(port) == 429

        async def answers() -> bool:
            return await status_of(port) == 200

        await eventually(answers, within_s=60, because="an answer that no one reads is given up")
        given_up = b'requests_total{outcome="not_read",source=""} 2.0'
        await eventually(lambda: given_up in metrics.page(), within_s=60, because="the other one is given up too")
        for client in clients:
            client.close()


async def test_more_connections_than_the_limit_are_closed_with_an_answer_until_others_end() -> None:
    async with serving(ServeMetrics(), most_connections=2) as port:
        clients = [await connected(port) for _ in range(2)]
        refused = await connected(port)
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(refused, 1_000), 60)
        assert answer.startswith(b"HTTP/1.1 503 ")
        for client in (*clients, refused):
            client.close()

        async def answers() -> bool:
            return await status_of(port, "/healthz") == 200

        await eventually(answers, within_s=60, because="the other connections have ended")
