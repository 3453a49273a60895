"""Answers that the API does not give: connections that break or hang, redirects, pages of a proxy, broken vectors.

Called by the fake server for the faults that are not error answers.
"""

import asyncio
import gzip
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from hack.provider_server import answers
from hack.provider_server.calls import Values
from hack.provider_server.faults import Fault, FaultKind

NO_ANSWERS = {FaultKind.HANG, FaultKind.TRICKLE, FaultKind.TRICKLE_HEADERS, FaultKind.CLOSE} | {
    *(FaultKind.REDIRECT, FaultKind.NOT_JSON, FaultKind.ERROR_BODY, FaultKind.BAD_GATEWAY, FaultKind.CLOSE_AT_ONCE),
    FaultKind.BOMB,
}
UNUSUAL = {FaultKind.GZIP, FaultKind.SHUFFLED, FaultKind.NUMBERS}
"""Right answers in another form."""
PAGE = "<html><body>Sign in to the network</body></html>"
TRICKLE_S = 1.0
BOMB_BYTES = 64_000_000


async def no_answer(fault: Fault, request: web.Request) -> web.StreamResponse:
    """An answer that is not one of the API, or not a whole one."""
    match fault.kind:
        case FaultKind.HANG:
            await asyncio.Event().wait()  # cancelled when the client closes the connection
        case FaultKind.TRICKLE_HEADERS:
            await trickled_headers(request)
        case FaultKind.REDIRECT:
            return web.Response(status=307, headers={"Location": fault.location})
        case FaultKind.NOT_JSON:
            return web.Response(text=PAGE, content_type="text/html")
        case FaultKind.BAD_GATEWAY:
            return web.Response(text=PAGE, status=502, content_type="text/html")
        case FaultKind.BOMB:
            body = gzip.compress(b" " * BOMB_BYTES, compresslevel=1)
            return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})
        case FaultKind.ERROR_BODY:
            return web.json_response(answers.internal().as_json())
        case FaultKind.CLOSE_AT_ONCE if request.transport is not None:
            request.transport.abort()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100000"})
    await response.prepare(request)
    await response.write(b'{"embeddings": [{"values": [0.1, ')
    while fault.kind is FaultKind.TRICKLE:  # cancelled when the client closes the connection
        await response.write(b" ")
        await asyncio.sleep(TRICKLE_S)
    if request.transport is not None:
        request.transport.close()
    return response


async def trickled_headers(request: web.Request) -> None:
    """Written past aiohttp, which sends headers as a whole. Cancelled when the client closes the connection."""
    transport: Any = request.transport
    transport.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        transport.write(b"x")
        await asyncio.sleep(TRICKLE_S)


def spoiled(vectors: list[list[float]], kind: FaultKind) -> Sequence[Values]:
    """The same vectors, the last of them broken."""
    match kind:
        case FaultKind.TRUNCATED:
            return vectors
        case FaultKind.TOO_FEW:
            return vectors[:-1]
        case FaultKind.ONE_FOR_ALL:
            return vectors[:1]
        case FaultKind.WRONG_SIZE:
            return [*vectors[:-1], vectors[-1][:-1]]
        case FaultKind.ZERO:
            return [*vectors[:-1], [0.0 for _ in vectors[-1]]]
        case FaultKind.NULL_VALUES:
            return [*vectors[:-1], [None for _ in vectors[-1]]]
        case FaultKind.NULL_VECTOR:
            return [*vectors[:-1], None]
        case FaultKind.INFINITE:
            return [*vectors[:-1], ["Infinity" for _ in vectors[-1]]]
        case _:  # Google's JSON writes NaN as a string
            return [*vectors[:-1], ["NaN" for _ in vectors[-1]]]


def encoded(body: Any, kind: FaultKind | None) -> web.Response:
    """The answer with this body, compressed or cut in half where the fault asks for it."""
    if kind is FaultKind.TRUNCATED:
        text = json.dumps(body)
        return web.Response(text=text[: len(text) // 2], content_type="application/json")
    response = web.json_response(body)
    if kind is FaultKind.GZIP:
        response.enable_compression(web.ContentCoding.gzip)
    return response
