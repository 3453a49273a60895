"""Serves /healthz, /readyz and /metrics over HTTP. Started by the process; the kubelet and Prometheus send requests.

/healthz fails where a restart would help. /readyz fails while the database or the API server cannot be reached.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

log = structlog.get_logger(__name__)

STUCK_S = 300.0
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
async def served(app: web.Application, port: int, *, finishes_within_s: float = 60.0) -> AsyncIterator[int]:
    """See health_server. At the end, no connection is accepted any more, and requests have so long to be answered."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=finishes_within_s)
    await runner.setup()
    try:
        # Port 0 is for tests on this machine: with several addresses, each would get a different port.
        site = web.TCPSite(runner, "127.0.0.1" if port == 0 else None, port)
        await site.start()
        listening = int(runner.addresses[0][1])
        log.info("http server up", port=listening)
        yield listening
    finally:
        await runner.cleanup()


def _answer(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)


def overdue(silent_s: float, what: str) -> list[str]:
    """A sentence where something that runs every few seconds has not run for five minutes."""
    return [f"{what} has not run for {silent_s:.0f} s"] if silent_s > STUCK_S else []
