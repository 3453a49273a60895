"""A question reaches a port of a pod through a WebSocket, as a kubelet forwards it, and each way to fail has its error."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from embedding_operator.api_errors import ApiServerUnreachable, Gone, RequestRefused
from kubectl_embeddings.pod_tunnel import PROTOCOL, Answer, PodSilent, ask, parsed

PORTS = (b"\0\x91\x1f", b"\1\x91\x1f")
"""The first messages of both channels: port 8081."""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntold"
Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


class Kubelet:
    """Answers with these messages, and keeps what it received."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.status = 101
        self.received = b""
        self.query = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.query = request.query_string
        if self.status != 101:
            return web.Response(status=self.status)
        forwarded = web.WebSocketResponse(protocols=(PROTOCOL,))
        await forwarded.prepare(request)
        self.received = (await forwarded.receive()).data
        for message in (*PORTS, *self.messages):
            await forwarded.send_bytes(message)
        await forwarded.close()
        return forwarded


@pytest.fixture
def kubelet() -> Kubelet:
    return Kubelet()


@pytest.fixture
async def url(kubelet: Kubelet) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.get("/portforward", kubelet.serve)])
    async with TestServer(app) as server:
        yield str(server.make_url("/portforward"))


async def answer(url: str) -> Answer:
    async with aiohttp.ClientSession() as session:
        return await ask(session, url, 8081, "/v1/rows?id=1")


async def test_the_port_gets_the_request_and_its_answer_comes_back(kubelet: Kubelet, url: str) -> None:
    kubelet.messages = [b"\0" + ANSWER]
    assert await answer(url) == Answer(200, b"told")
    assert kubelet.query == "ports=8081"
    assert kubelet.received.startswith(b"\0GET /v1/rows?id=1 HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n")


async def test_an_answer_may_come_in_any_parts(kubelet: Kubelet, url: str) -> None:
    kubelet.messages = [b"\0" + ANSWER[n : n + 1] for n in range(len(ANSWER))]
    assert await answer(url) == Answer(200, b"told")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "ended before its answer"),
        ([b"\0" + ANSWER[:-1]], "ended before its answer"),
        ([b"\0no HTTP\r\n\r\n"], "ended before its answer"),
        ([b"\1dial tcp4 127.0.0.1:8081: connection refused"], "connection refused"),
    ],
)
async def test_a_port_that_gives_no_answer_is_silent(
    kubelet: Kubelet, url: str, messages: list[bytes], said: str
) -> None:
    kubelet.messages = messages
    with pytest.raises(PodSilent, match=said):
        await answer(url)


@pytest.mark.parametrize(("status", "error"), [(403, RequestRefused), (404, Gone)])
async def test_what_the_api_server_refuses_keeps_its_meaning(
    kubelet: Kubelet, url: str, status: int, error: type[Exception]
) -> None:
    kubelet.status = status
    with pytest.raises(error):
        await answer(url)


async def test_an_api_server_that_is_away_is_said() -> None:
    with pytest.raises(ApiServerUnreachable):
        await answer("http://127.0.0.1:9/portforward")


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (ANSWER, Answer(200, b"told")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntold\r\n0\r\n\r\n", Answer(200, b"told")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nto", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length", None),
        (b"", None),
    ],
)
def test_an_answer_is_read_when_it_is_complete(received: bytes, expected: Answer | None) -> None:
    assert parsed(received) == expected
