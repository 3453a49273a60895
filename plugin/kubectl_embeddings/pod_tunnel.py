"""Asks an HTTP server in a pod through the API server, as `kubectl port-forward` does, without a port on this machine.

Called by cluster.py. The kubelet forwards a WebSocket of the API server to the port, by the protocol v4.channel.k8s.io: each
message begins with a byte, 0 for data and 1 for an error, and the first message of each kind holds the number of the port.
"""

import asyncio
import io
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from socket import socket
from typing import cast

import aiohttp

from embedding_operator.api_access.session import reason_unreachable
from embedding_operator.api_errors import ApiServerUnreachable, reaction_to

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
PORT_BYTES = 2
WITHIN_S = 30.0
LARGEST = 64 * 1024 * 1024


class PodSilent(Exception):
    """The port of the pod gives no answer. The message says why, in a few words."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


async def ask(session: aiohttp.ClientSession, url: str, port: int, path: str) -> Answer:
    """GET this path from the port of the pod, whose `portforward` has this URL.

    Raises PodSilent, ApiServerUnreachable, and what the API server's refusal means.
    """
    try:
        async with (
            asyncio.timeout(WITHIN_S),
            session.ws_connect(url, params={"ports": str(port)}, protocols=(PROTOCOL,), max_msg_size=0) as forwarded,
        ):
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
            await forwarded.send_bytes(bytes([DATA]) + request.encode("ascii"))
            return await _received(forwarded)
    except aiohttp.WSServerHandshakeError as exc:
        raise reaction_to(exc.status, b"", None) from exc
    except TimeoutError as exc:
        raise PodSilent(f"it has not answered within {WITHIN_S:.0f} s") from exc
    except aiohttp.ClientError as exc:
        raise ApiServerUnreachable(f"the API server cannot be reached ({reason_unreachable(exc)})") from exc


async def _received(forwarded: aiohttp.ClientWebSocketResponse) -> Answer:
    received = {DATA: bytearray(), ERROR: bytearray()}
    async for message in forwarded:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        received.setdefault(message.data[0], bytearray()).extend(message.data[1:])
        if said := received[ERROR][PORT_BYTES:]:
            raise PodSilent(said.decode(errors="replace").strip())
        if len(received[DATA]) > LARGEST:
            raise PodSilent("its answer is too large")
        if (answer := parsed(bytes(received[DATA][PORT_BYTES:]))) is not None:
            return answer
    raise PodSilent("the connection ended before its answer")


class _Bytes:
    """In place of a socket, as http.client reads one."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._content)


def parsed(received: bytes) -> Answer | None:
    """The answer; None while it is not complete."""
    if b"\r\n\r\n" not in received:
        return None
    response = HTTPResponse(cast(socket, _Bytes(received)))
    try:
        response.begin()
        return Answer(response.status, response.read())
    except HTTPException:
        return None
