"""Answers questions that only the leader can answer, as JSON over HTTP, to this pod alone: it listens on 127.0.0.1.

Started by the process. People reach it by `kubectl port-forward`, as `kubectl embeddings explain` does, so the right to
port-forward guards it. It answers one question at a time, and changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import web

from embedding_operator.reconciler.row_explainer import QuestionRefused
from embedding_worker.errors import EmbeddingError

log = structlog.get_logger(__name__)

WITHIN_S = 20.0
"""The connections of the pool may all be in use, and each statement has a time limit of its own."""
OWN_NAMES = frozenset({"localhost", "127.0.0.1"})
Explain = Callable[[str, str], Awaitable[dict[str, Any]]]
"""The answer about a row, by its source and its id. Raises QuestionRefused and EmbeddingError."""


@asynccontextmanager
async def local_endpoint(port: int, explain: Explain) -> AsyncIterator[int | None]:
    """Serve on this port (0: any free one) while the context lasts. Yields the port; None if it is in use.

    Nothing that the operator does depends on it, so a port that another container of the pod uses is logged only.
    """
    runner = web.AppRunner(_app(explain), access_log=None)
    await runner.setup()
    try:
        served = await _listen(runner, port)
        yield served
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> int | None:
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    except OSError as exc:
        log.warning(
            "EMBEDDING_LOCAL_PORT can't be used, so kubectl embeddings explain gets no answer: set another one",
            port=port,
            error=exc.strerror,
        )
        return None
    served = int(runner.addresses[0][1])
    log.info("local endpoint up", port=served)
    return served


def _app(explain: Explain) -> web.Application:
    asking = asyncio.Lock()

    async def rows(request: web.Request) -> web.Response:
        # A web page that a person has open may have its own name resolve to 127.0.0.1, where a port is forwarded to.
        if (request.url.host or "") not in OWN_NAMES:
            return _refused(QuestionRefused(400, "the header Host names another host: ask 127.0.0.1"))
        try:
            given = [request.query.get(name, "") for name in ("source", "id")]
            async with asyncio.timeout(WITHIN_S), asking:
                return web.json_response(await explain(*given))
        except QuestionRefused as exc:
            return _refused(exc)
        except TimeoutError:
            return _refused(QuestionRefused(503, f"the answer took longer than {WITHIN_S:.0f} s: ask again"))
        except EmbeddingError as exc:
            return _refused(QuestionRefused(503, f"the database gives no answer: {exc}"))

    app = web.Application()
    app.add_routes([web.get("/v1/rows", rows)])
    return app


def _refused(refused: QuestionRefused) -> web.Response:
    body = {"error": str(refused)} | ({"leader": refused.leader} if refused.leader else {})
    return web.json_response(body, status=refused.status)
