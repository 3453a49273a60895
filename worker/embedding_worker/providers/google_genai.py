"""Google's Gemini embeddings, through the SDK google-genai, google-generativeai's successor. Called by the provider registry.

Model, vectors, fingerprint, settings and limits are those of the provider on the older SDK, so that a change of the SDK embeds
nothing again. The SDK makes the request (address, key, headers) and sends it once, by a client of ours that follows no redirect
and keeps the answer as it came. Left to itself, it takes 0.5 ms a text to write a request, and copies each float of the answer.
"""

import asyncio
import importlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from embedding_worker.errors import AnswerUnusable, ProviderError, ProviderUnavailable
from embedding_worker.providers.async_http import import_all_of
from embedding_worker.providers.blocking_call import BlockingCall
from embedding_worker.providers.bounded_answer import bounded, most_bytes, most_bytes_for
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.google_answers import vectors_in
from embedding_worker.providers.google_errors import reaction_to_failure
from embedding_worker.providers.google_models import (
    ENDPOINT,
    ENDPOINT_SETTING,
    KEY_SETTING,
    LIMITS_NAME,
    MOST_TEXT_BYTES,
    MOST_TEXTS,
    SETTINGS,
    TIMEOUT_S,
    endpoint_of,
    known_model,
    known_task_type,
    query_task_type,
)
from embedding_worker.providers.http_settings import Access, access_of, usable_endpoint, usable_key
from embedding_worker.providers.provider import Provider, Values
from embedding_worker.source import Model

NAME = "google-genai"
CONNECT_TIMEOUT_S = 5.0
"""For the connection, and for the handshake of TLS."""


@dataclass(eq=False)
class Call:
    """One request, and how far it got."""

    reached: bool = False
    """Whether a connection was established, so that the request was sent, or may have been."""
    content: bytes | None = None
    """The whole answer, if it says to be well."""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpx2 at each step of the request, and of the one that opens a tunnel through a proxy."""
        if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            self.reached = True


_present: ContextVar[Call] = ContextVar("the request that this task makes")


class GoogleGenaiEmbedder:
    """Embeds without threads, but for parsing. Safe to call from several tasks at once."""

    max_texts = MOST_TEXTS
    max_text_bytes = MOST_TEXT_BYTES

    def __init__(self, model: Model, *, api_key: str, endpoint: str | None, timeout_s: float = TIMEOUT_S) -> None:
        """Raises SourceRefused for what can be seen to be wrong before any call."""
        self._model = known_model(model)
        self._dimensions = model.dimensions
        self._task_type = known_task_type(model)
        address = usable_endpoint(endpoint, setting=ENDPOINT_SETTING, default=ENDPOINT)
        self._access = access_of(model, address, key_setting=KEY_SETTING, endpoint_setting=ENDPOINT_SETTING)
        self._timeout_s = timeout_s
        self._make_client = partial(make_client, usable_key(api_key, setting=KEY_SETTING), address)
        self._client: Any = None
        self._making = threading.Lock()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See Embedder.embed. A client is made first, unless that was done before, which the timeout leaves out."""
        await self.prepare()
        client = self._client
        call = Call()
        most_bytes.set(most_bytes_for(len(texts), self._dimensions))
        try:
            async with asyncio.timeout(self._timeout_s):
                content = await self._send(call, client, texts)
        except TimeoutError:
            raise ProviderUnavailable(
                f"the provider {NAME!r} gave no answer within {self._timeout_s:g} s, at {self._access.endpoint}",
                reached=call.reached,
                timed_out=True,
            ) from None
        read = partial(vectors_in, content, provider=NAME, texts=len(texts), dimensions=self._dimensions)
        return await BlockingCall(NAME).run(
            read
        )  # in a thread of its own, because threads that all share may wait for DNS

    async def prepare(self) -> None:
        """Make the client, unless that was done before."""
        if self._client is None:
            await BlockingCall(NAME).run(self._make_ready)

    def _make_ready(self) -> None:
        with self._making, translate_sdk_errors(self._access, Call()):
            if self._client is None:
                self._client = self._make_client()

    async def _send(self, call: Call, client: Any, texts: Sequence[str]) -> bytes:
        _present.set(call)
        with translate_sdk_errors(self._access, call):
            from google.genai import types

            # `extra_body` takes the place of what the SDK makes of `contents`. (Newer models take a list of texts for one text.)
            body = {"requests": [self.request_of(text) for text in texts]}
            await client.aio.models.embed_content(
                model=self._model,
                contents=[types.Content(parts=[types.Part(text=texts[0])])],
                config=types.EmbedContentConfig(http_options=types.HttpOptions(extra_body=body)),
            )
        if call.content is None:
            raise AnswerUnusable(f"the provider {NAME!r} gave no usable answer, at {self._access.endpoint}")
        return call.content

    def request_of(self, text: str) -> dict[str, object]:
        """An EmbedContentRequest of the API."""
        return {
            "model": self._model,
            "content": {"parts": [{"text": text}]},
            "taskType": self._task_type,
            "outputDimensionality": self._dimensions,
        }


def import_sdk(module: str) -> None:
    """Import the SDK, what it imports for its first client, and the HTTP client that it is given."""
    for name in (module, "google.auth.aio.credentials"):
        importlib.import_module(name)
    import_all_of(importlib.import_module("httpx2").AsyncClient)


def make_client(api_key: str, endpoint: str) -> Any:
    """A client with this key. What the environment says of other keys, servers and clouds of Google is ignored."""
    for name in ("google_genai", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.ERROR)  # the SDK warns of other keys in the environment
    import httpx2
    from google import genai

    class OneRequest(httpx2.AsyncClient):
        """Sends each request once, follows no redirect, and raises HTTPStatusError for every answer but a success."""

        async def send(self, *args: Any, **given: Any) -> httpx2.Response:
            response = await super().send(*args, **given | {"stream": True})
            read: httpx2.Response = await bounded(response, most_bytes.get())
            return read

        async def request(self, *args: Any, **given: Any) -> httpx2.Response:
            call = _present.get()
            timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)  # the caller limits the whole
            given |= {"timeout": timeout, "extensions": {"trace": call.trace}}
            response = await super().request(*args, **given)
            if not response.is_success:
                raise httpx2.HTTPStatusError("", request=response.request, response=response)
            call.content = response.content
            return httpx2.Response(200, content=b"{}")  # the SDK would copy each float

    options = genai.types.HttpOptions(
        base_url=endpoint,
        httpx_async_client=OneRequest(follow_redirects=False),
        httpx_client=httpx2.Client(trust_env=False),  # unused; the SDK's own would refuse an IPv6 network in NO_PROXY
    )
    return genai.Client(vertexai=False, api_key=api_key, http_options=options)


@contextmanager
def translate_sdk_errors(access: Access, call: Call) -> Iterator[None]:
    """Translate the SDK's errors, which are not chained: they quote requests and answers."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as exc:
        answered, now = call.content is not None, datetime.now(UTC)
        raise reaction_to_failure(
            exc, provider=NAME, access=access, reached=call.reached, answered=answered, now=now
        ) from None


def make_embedder(model: Model, values: Values) -> GoogleGenaiEmbedder:
    return GoogleGenaiEmbedder(model, api_key=values[KEY_SETTING], endpoint=endpoint_of(values))


PROVIDER = Provider(
    name=NAME,
    make=make_embedder,
    sdk_module="google.genai",
    extra=NAME,
    import_sdk=import_sdk,
    settings=SETTINGS,
    endpoint=endpoint_of,
    has_own_models=True,
    limits_name=LIMITS_NAME,
    query_task_type=query_task_type,
)
