"""/healthz, /readyz and /metrics, on one small HTTP server. Called by the process; asked by the kubelet and by Prometheus.

/healthz says whether a restart would help; /readyz, whether database and API server can be had at the moment.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

log = structlog.get_logger(__name__)

STUCK_S = 300.0
Probe = Callable[[], list[str]]
"""What is wrong, a sentence each; nothing where all is well."""


@asynccontextmanager
async def health_server(
    port: int, *, stuck: Probe, not_ready: Probe, metrics: Callable[[], bytes]
) -> AsyncIterator[int]:
    """Serve on this port (0: any free one) while the context lasts. Gives the port. Raises OSError where it is taken."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(stuck())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(not_ready())

    async def metrics_page(_: web.Request) -> web.Response:
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=metrics(), headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics_page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        # A free port is for trying, on this machine: of several addresses each would get another one.
        site = web.TCPSite(runner, "127.0.0.1" if port == 0 else None, port)
        await site.start()
        served = int(runner.addresses[0][1])
        log.info("http server up", port=served)
        yield served
    finally:
        await runner.cleanup()


def _answer(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)


def overdue(last_turn: float, what: str) -> list[str]:
    """A sentence where something that comes round every few seconds has not for five minutes."""
    silent_s = time.monotonic() - last_turn
    return [f"{what} has not come round for {silent_s:.0f} s"] if silent_s > STUCK_S else []
