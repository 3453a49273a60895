"""`python -m hack.benchmarks.quota_server`: the fake Gemini API with a quota of texts in any 60 seconds, which it enforces.

Started by quota.py. GET /control/quota says which texts were accepted when, and how many calls were refused.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from hack.provider_server import answers
from hack.provider_server.process import API_KEY
from hack.provider_server.server import FakeServer, serve

WINDOW_S = 60.0
RETRY_AFTER_S = 5.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LimitedServer(FakeServer):
    def __init__(self, *, texts_per_minute: int, latency_s: float) -> None:
        super().__init__(api_key=API_KEY, latency_s=latency_s)
        self._most = texts_per_minute
        self._accepted: list[tuple[float, int]] = []
        self._refused = 0

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/control/quota", self._show)

        @web.middleware
        async def enforce(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._enforce(request, handler)

        app.middlewares.append(enforce)
        return app

    async def _enforce(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "POST":
            return await handler(request)
        texts, now = len((await request.json())["requests"]), time.monotonic()
        if texts + sum(number for at, number in self._accepted if at > now - WINDOW_S) > self._most:
            self._refused += 1
            body = answers.throttled(per="minute", retry_after_s=RETRY_AFTER_S)
            return web.json_response(body.as_json(), status=body.code)
        self._accepted.append((now, texts))
        return await handler(request)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"accepted": self._accepted, "refused": self._refused})


if __name__ == "__main__":
    asyncio.run(serve(LimitedServer(texts_per_minute=int(sys.argv[1]), latency_s=0.2), 0))
