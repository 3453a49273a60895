"""Serves `POST /v1/embeddings` and `GET /v1/models` over HTTP, beside the probes and the metrics. Started by cli/serve.py.

Every answer, also that of an error, has the form of OpenAI's API. No request is logged.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from aiohttp import web

from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.serve.messages import (
    MOST_BODY_BYTES,
    EmbeddingsRequest,
    ListedModel,
    RequestRefused,
    embeddings,
    models,
    parse_request,
)
from embedding_operator.serve.metrics import ServeMetrics
from embedding_operator.serve.refusals import rate_limited, retry_after
from embedding_operator.serve.search_embedder import SearchEmbedder
from embedding_worker.clock import Clock
from embedding_worker.providers.embedder import tokens_of

log = structlog.get_logger(__name__)

MOST_REQUESTS = 64
"""That are being answered at once. Each holds a body of up to a megabyte, and the vectors of its answer."""
MOST_CONNECTIONS = 512
"""Also those that send nothing."""
BODY_WITHIN_S = 10.0
WRITTEN_WITHIN_S = 10.0
"""So long a client may take to read its answer."""
JSON = {"Content-Type": "application/json; charset=utf-8"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Token:
    """What clients must send as a bearer token; None if they need none. Replaced by the rotation."""

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else _digest(token)

    def replace(self, token: str) -> None:
        self._expected = _digest(token)

    def refuse_others(self, header: str) -> None:
        """Raises RequestRefused."""
        scheme, _, given = header.partition(" ")
        if self._expected is None:
            return
        # Compared as digests, so that the time tells nothing about the token, nor about its length.
        if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), self._expected):
            raise RequestRefused(
                401, "the bearer token is missing or wrong: send it in the header Authorization", code="invalid_api_key"
            )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


class SearchApi:
    def __init__(
        self,
        sources: Callable[[], Mapping[str, EmbeddingSource]],
        embedder: SearchEmbedder,
        *,
        token: Token,
        clock: Clock,
        metrics: ServeMetrics,
    ) -> None:
        self._sources = sources
        self._embedder = embedder
        self._token = token
        self._clock = clock
        self._metrics = metrics
        self._answering = 0

    def application(self, probes: list[web.RouteDef]) -> web.Application:
        app = web.Application(middlewares=[in_the_form_of_the_api], client_max_size=MOST_BODY_BYTES)
        app.add_routes(
            [
                web.post("/v1/embeddings", self.post_embeddings),
                web.get("/v1/models", self.get_models),
                *probes,
            ]
        )
        return app

    async def get_models(self, request: web.Request) -> web.Response:
        self._token.refuse_others(request.headers.get("Authorization", ""))
        sources = sorted(self._sources().values(), key=lambda source: source.name)
        return web.json_response(models(map(_listed, sources)))

    async def post_embeddings(self, request: web.Request) -> web.StreamResponse:
        began, source, outcome = self._clock.monotonic(), "", "failed"
        try:
            with self._one_more():
                asked = await self._read(request)
                source = asked.model if asked.model in self._sources() else ""
                parts, answer = await self._answer(asked), web.StreamResponse(headers=JSON)
                outcome = "ok" if await _is_written(answer, parts, request) else "not_read"
                return answer
        except RequestRefused as exc:
            outcome = exc.code
            raise
        finally:
            self._metrics.record_answer(source, outcome=outcome, seconds=self._clock.monotonic() - began)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """Raises RequestRefused if too many requests are being answered."""
        if self._answering >= MOST_REQUESTS:
            raise rate_limited("too many requests are being answered", 1.0)
        self._answering += 1
        try:
            with self._metrics.answering():
                yield
        finally:
            self._answering -= 1

    async def _read(self, request: web.Request) -> EmbeddingsRequest:
        self._token.refuse_others(request.headers.get("Authorization", ""))
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise RequestRefused(
                413,
                f"the body has more than {MOST_BODY_BYTES} bytes: send fewer or shorter texts",
                code="body_too_large",
            ) from None
        except TimeoutError:
            raise RequestRefused(
                408, f"the body did not arrive within {BODY_WITHIN_S:.0f} s: send it again", code="body_incomplete"
            ) from None
        return parse_request(body)

    async def _answer(self, asked: EmbeddingsRequest) -> Iterator[bytes]:
        embedded = await self._embedder.embed(asked, self._sources())
        return embeddings(asked, embedded.vectors, tokens=tokens_of(embedded.sent))


async def _is_written(answer: web.StreamResponse, parts: Iterator[bytes], request: web.Request) -> bool:
    """Send the answer as the client reads it, so that it counts until then. Returns whether it was read in time."""
    try:
        async with asyncio.timeout(WRITTEN_WITHIN_S):
            await answer.prepare(request)
            for part in parts:
                await answer.write(part)
            await answer.write_eof()
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()
        return False
    return True


def _listed(source: EmbeddingSource) -> ListedModel:
    in_force: dict[str, Any] = source.status.get("model") or {}
    provider = str(in_force.get("provider") or source.spec.model.provider)
    return ListedModel(source.name, int(source.metadata.creation_timestamp.timestamp()), provider)


@web.middleware
async def in_the_form_of_the_api(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers errors, also those of aiohttp and unexpected ones."""
    try:
        return await handler(request)
    except RequestRefused as exc:
        return _refused(exc)
    except web.HTTPException as exc:
        if exc.status < 400:
            raise
        allowed = exc.headers.get("Allow")
        hint = f"use {allowed}" if allowed else "the path is /v1/embeddings or /v1/models"
        refused = RequestRefused(exc.status, f"{exc.reason}: {hint}", code="invalid_request")
        return _refused(refused, {"Allow": allowed} if allowed else {})
    except Exception as exc:
        log.error("a request has failed", exc_info=exc)
        return _refused(RequestRefused(500, "an unexpected error: see the log", code="internal_error"))


def _refused(refused: RequestRefused, headers: Mapping[str, str] = {}) -> web.Response:
    sent = dict(headers)
    if refused.retry_after_s is not None:
        sent["Retry-After"] = retry_after(refused.retry_after_s)
    if refused.status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    body = json.dumps(refused.as_json(), ensure_ascii=False)
    return web.Response(text=body, content_type="application/json", status=refused.status, headers=sent)
