"""Serves the page on 127.0.0.1. Started by verb.py; asks poll.py.

What it shows, other users of this machine and other pages in the browser must not read. So:

- It answers only for an address that nobody can guess, with a random token in the path. A cookie would be sent to every port of
  127.0.0.1. Users see the arguments of each other's programs, so the browser is started with an address that works once.
- The header Host must name this machine, because the name of a foreign page may be made to point to 127.0.0.1 (DNS rebinding).
  Its port may be another one, as with a tunnel by SSH.
- It only reads, loads nothing from elsewhere, and allows no other origin to read or to frame it. No script is inline.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

ADDRESS = "127.0.0.1"
HOSTS = {ADDRESS, "localhost"}
FOLDER = Path(__file__).with_name("files")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
INDEX = "index.html"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
NOT_FOUND = "There is no page here: open the address that `kubectl embeddings ui` has printed.\n"
State = Callable[[str], Awaitable[dict[str, Any]]]
"""What the page shows, with the curves of this source."""


@dataclass(frozen=True)
class Addresses:
    page: str
    once: str
    """Leads to the page, the first time that it is opened."""


@asynccontextmanager
async def page_server(state: State, *, port: int) -> AsyncIterator[Addresses]:
    """Serve on this port (0: any free one) while the context lasts. Raises OSError where it is in use."""
    token, code = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    runner = web.AppRunner(_application(state, token, code), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, ADDRESS, port).start()
        base = f"http://{ADDRESS}:{runner.addresses[0][1]}"
        yield Addresses(f"{base}/{token}/", f"{base}/once/{code}")
    finally:
        await runner.cleanup()


def _application(state: State, token: str, code: str) -> web.Application:
    unused = {code}

    async def page(request: web.Request) -> web.StreamResponse:
        _check(request, token)
        return _file(INDEX)

    async def file(request: web.Request) -> web.StreamResponse:
        _check(request, token)
        return _file(request.match_info["name"])

    async def known(request: web.Request) -> web.StreamResponse:
        _check(request, token)
        return web.json_response(await state(request.query.get("source", "")))

    async def once(request: web.Request) -> web.StreamResponse:
        if request.match_info["code"] not in unused:
            raise web.HTTPNotFound(text=NOT_FOUND)
        unused.clear()
        raise web.HTTPFound(f"/{token}/")

    application = web.Application(middlewares=[_guard])
    application.router.add_get("/once/{code}", once, allow_head=False)
    application.router.add_get("/{token}/", page, allow_head=False)
    application.router.add_get("/{token}/state", known, allow_head=False)
    application.router.add_get("/{token}/{name}", file, allow_head=False)
    return application


@web.middleware
async def _guard(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Refuses what no browser that shows the page sends. Every answer has the headers."""
    try:
        response = await _guarded(request, handler)
    except web.HTTPException as exc:
        exc.headers.update(HEADERS)
        raise
    response.headers.update(HEADERS)
    return response


async def _guarded(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if request.method != "GET":
        raise web.HTTPMethodNotAllowed(request.method, ["GET"], text="This page only reads: use GET.\n")
    if request.headers.get("Host", "").rpartition(":")[0] not in HOSTS:
        raise web.HTTPForbidden(text=f"This page is served for http://{ADDRESS} only.\n")
    return await handler(request)


def _check(request: web.Request, token: str) -> None:
    if not secrets.compare_digest(request.match_info["token"].encode(), token.encode()):
        raise web.HTTPNotFound(text=NOT_FOUND)


def _file(name: str) -> web.Response:
    """A file of the page, and nothing outside of its folder."""
    if name not in {path.name for path in FOLDER.iterdir() if path.suffix in TYPES}:
        raise web.HTTPNotFound(text=NOT_FOUND)
    path = FOLDER / name
    return web.Response(body=path.read_bytes(), content_type=TYPES[path.suffix], charset="utf-8")
