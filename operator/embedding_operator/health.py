"""Serves /healthz, /readyz and /metrics over HTTP. Started by the process; the kubelet and Prometheus send requests.

/healthz fails where a restart would help. /readyz fails while the database or the API server cannot be reached.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

log = structlog.get_logger(__name__)

STUCK_S = 300.0
KEPT_BY_THE_KERNEL = 65_536
"""Of an answer that a client does not read, in bytes. Without a limit it is megabytes, which count as the pod's memory."""
TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"
Probe = Callable[[], list[str]]
"""The problems, one sentence each; an empty list means that there is none."""


@asynccontextmanager
async def health_server(
    port: int, *, stuck: Probe, not_ready: Probe, metrics: Callable[[], bytes]
) -> AsyncIterator[int]:
    """Serve on this port (0: any free one) while the context lasts. Yields the port. Raises OSError where it is in use."""
    app = web.Application()
    app.add_routes(probes(stuck=stuck, not_ready=not_ready, metrics=metrics))
    async with served(app, port) as listening:
        yield listening


def probes(*, stuck: Probe, not_ready: Probe, metrics: Callable[[], bytes]) -> list[web.RouteDef]:
    """The routes for the kubelet and Prometheus."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(stuck())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(not_ready())

    async def metrics_page(_: web.Request) -> web.Response:
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=metrics(), headers={"Content-Type": content_type})

    return [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics_page)]


@asynccontextmanager
async def served(
    app: web.Application, port: int, *, finishes_within_s: float = 60.0, most_connections: int | None = None
) -> AsyncIterator[int]:
    """See health_server. At the end, no connection is accepted any more, and requests have so long to be answered.

    `most_connections` are kept at once; one more is closed with an answer 503.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=finishes_within_s)
    await runner.setup()
    try:
        # Port 0 is for tests on this machine: with several addresses, each would get a different port.
        host = "127.0.0.1" if port == 0 else None
        listener = await asyncio.get_running_loop().create_server(_accept(runner, most_connections), host, port)
        try:
            for each in listener.sockets if most_connections is not None else ():
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KEPT_BY_THE_KERNEL)  # connections inherit it
            listening = int(listener.sockets[0].getsockname()[1])
            log.info("http server up", port=listening)
            yield listening
        finally:
            listener.close()
    finally:
        await runner.cleanup()


def _accept(runner: web.AppRunner, most: int | None) -> Callable[[], asyncio.Protocol]:
    """Makes what answers a new connection."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner was not set up")
    if most is None:
        return server
    return lambda: server() if len(server.connections) < most else TooManyConnections()


class TooManyConnections(asyncio.Protocol):
    """Answers and closes a connection without reading."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(TOO_MANY)
        transport.close()


def _answer(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)


def overdue(silent_s: float, what: str) -> list[str]:
    """A sentence where something that runs every few seconds has not run for five minutes."""
    return [f"{what} has not run for {silent_s:.0f} s"] if silent_s > STUCK_S else []
