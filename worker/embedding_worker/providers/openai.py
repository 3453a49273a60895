"""Embeddings of OpenAI and of every server that speaks its API, through the openai SDK: TEI, infinity, Ollama, vLLM.

Called through the provider registry. The SDK repeats nothing and follows no redirect. Vectors are asked for in base64, which is a
third of the size of numbers and needs no parsing; servers that do not know it answer numbers, which are read too. Answers are
read in a thread, so that the event loop goes on meanwhile.
"""

import asyncio
import base64
import binascii
import importlib
import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic_core import from_json

from embedding_worker.errors import AnswerUnusable, ProviderError, ProviderUnavailable, SourceRefused
from embedding_worker.providers.accounts import KEY_REF
from embedding_worker.providers.async_http import import_all_of
from embedding_worker.providers.blocking_call import BlockingCall
from embedding_worker.providers.bounded_answer import bounded, most_bytes, most_bytes_for
from embedding_worker.providers.embedder import (
    BYTES_PER_TOKEN,
    CountedVectors,
    Vector,
    at_unit_length,
    check_vectors,
    numbers,
)
from embedding_worker.providers.http_settings import Access, access_of, kind_of, usable_endpoint, usable_key
from embedding_worker.providers.openai_errors import ErrorAnswer, reaction_to
from embedding_worker.providers.provider import SOURCE_ENDPOINT, Provider, ProviderSetting, Values
from embedding_worker.providers.rate_limits import rate_limit_settings
from embedding_worker.source import Model

NAME = "openai"
KEY_SETTING = "OPENAI_API_KEY"
ENDPOINT = "https://api.openai.com/v1"
NO_KEY = "no-key-is-set"
"""The SDK refuses to start without one, or takes OPENAI_API_KEY of the environment. It is never sent."""
TIMEOUT_S = 30.0
"""For the whole call. A model on a CPU embeds about ten long texts a second; a call that takes longer is made smaller."""
FIRST_TEXTS = 32
"""In the first calls to another server than OpenAI's, which may be slow. Twice as many while it answers quickly."""
IDLE_S = 3.0
"""How long an idle connection is used again: uvicorn, under vLLM and infinity, closes it after five seconds."""
MOST_TOKENS = 300_000
"""Of all texts of a call (platform.openai.com, embeddings). More are refused."""
TAKES_DIMENSIONS = "text-embedding-3-"
"""The models that are asked for a number of dimensions. Other servers refuse the parameter, or give the model's own number."""
HEADERS_OF_ENVIRONMENT = ("OpenAI-Organization", "OpenAI-Project")
"""The SDK would send what variables of the environment say of the account at OpenAI to every server."""
NOT_REACHED = ("ConnectError", "ConnectTimeout", "ProxyError", "PoolTimeout", "UnsupportedProtocol")
"""Errors of the SDK's HTTP client before anything was sent."""


class OpenAIEmbedder:
    """Embeds without threads, but for reading answers. Safe to call from several tasks at once."""

    # OpenAI accepts 2,048 texts in a call; of smaller servers the largest accepted batch is learned.
    max_texts = 256
    # text-embedding-3 accepts 8,192 tokens a text, at three bytes of UTF-8 a token on the safe side.
    max_text_bytes = 24_000
    max_call_bytes = MOST_TOKENS * BYTES_PER_TOKEN

    def __init__(self, model: Model, *, api_key: str | None, endpoint: str, timeout_s: float = TIMEOUT_S) -> None:
        """Raises SourceRefused for what can be seen to be wrong before any call."""
        self.first_texts = self.max_texts if endpoint == ENDPOINT else FIRST_TEXTS
        if model.task_type is not None:
            raise SourceRefused(
                "TaskTypeUnknown",
                f"spec.model.taskType is {model.task_type!r}: the provider {NAME!r} has none, leave it out",
            )
        self._model = model
        self._api_key = api_key
        key_name = KEY_SETTING if api_key else KEY_REF
        self._access = access_of(model, endpoint, key_setting=key_name, endpoint_setting=SOURCE_ENDPOINT)
        self._timeout_s = timeout_s
        self._send: Any = None
        self._making = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See Embedder.embed. A client is made first, unless that was done before, in a thread and outside of the timeout."""
        await self.prepare()
        asked: dict[str, Any] = {"model": self._model.name, "input": list(texts), "encoding_format": "base64"}
        if self._model.name.startswith(TAKES_DIMENSIONS):
            asked["dimensions"] = self._model.dimensions
        most_bytes.set(most_bytes_for(len(texts), self._model.dimensions))
        try:
            async with asyncio.timeout(self._timeout_s):
                with translate_sdk_errors(self._access):
                    answer = await self._send(**asked)
                    content = answer.content
        except TimeoutError:
            raise ProviderUnavailable(
                f"the provider {NAME!r} gave no answer within {self._timeout_s:g} s, at {self._access.endpoint}",
                timed_out=True,
            ) from None
        # In a thread of its own, because threads that all share may wait for DNS.
        return await BlockingCall(NAME).run(partial(self._vectors_in, content, len(texts)))

    def _vectors_in(self, content: bytes, texts: int) -> list[Vector]:
        body = body_of(content, endpoint=self._access.endpoint)
        vectors = vectors_in(body, texts=texts, access=self._access)
        whole = at_unit_length(check_vectors(vectors, texts=texts, dimensions=self._model.dimensions))
        tokens = tokens_in(body)
        return whole if tokens is None else CountedVectors(whole, tokens=tokens)

    async def prepare(self) -> None:
        """Make the client, unless that was done before."""
        async with self._making:
            if self._send is None:
                self._send = await BlockingCall(NAME).run(partial(make_sender, self._api_key, self._access.endpoint))


def import_sdk(module: str) -> None:
    """Import the SDK, what it imports for its first client and call, and its HTTP client."""
    importlib.import_module(f"{module}.resources.embeddings")
    import_all_of(importlib.import_module(module).DefaultAsyncHttpxClient)


def make_sender(api_key: str | None, endpoint: str) -> Any:
    """The SDK's function that makes a call, with this key or with none.

    Redirects are not followed: another server would get the key and the texts.
    """
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at debug they log whole requests, the texts in them
    import openai

    try:
        defaults = openai.DEFAULT_CONNECTION_LIMITS
        limits = type(defaults)(
            max_connections=defaults.max_connections,
            max_keepalive_connections=defaults.max_keepalive_connections,
            keepalive_expiry=IDLE_S,
        )
        http_client = bounded_client(openai.DefaultAsyncHttpxClient)(follow_redirects=False, limits=limits)
    except Exception as exc:  # an authority's certificate, or a proxy's address, that cannot be used
        raise ProviderUnavailable(
            f"the provider {NAME!r} cannot be called: {type(exc).__name__}, see the proxy and the certificates that are set",
            reached=False,
        ) from None
    client = openai.AsyncOpenAI(api_key=api_key or NO_KEY, base_url=endpoint, max_retries=0, http_client=http_client)
    left_out = HEADERS_OF_ENVIRONMENT if api_key else (*HEADERS_OF_ENVIRONMENT, "Authorization")
    headers = dict.fromkeys(left_out, openai.Omit())
    return partial(client.embeddings.with_raw_response.create, extra_headers=headers)


def bounded_client(base: Any) -> Any:
    class BoundedClient(base):  # type: ignore[misc]
        """Reads no answer further than it may be long."""

        async def send(self, *args: Any, **given: Any) -> Any:
            response = await super().send(*args, **given | {"stream": True})
            return await bounded(response, most_bytes.get())

    return BoundedClient


@contextmanager
def translate_sdk_errors(access: Access) -> Iterator[None]:
    """Translate the SDK's errors, which are not chained: they quote requests and answers."""
    import openai

    try:
        yield
    except openai.APIStatusError as exc:
        raise _reaction(ErrorAnswer(exc.status_code, exc.body, exc.response.headers), access) from None
    except Exception as exc:
        cause = exc.__cause__ if isinstance(exc, openai.APIConnectionError) and exc.__cause__ else exc
        if isinstance(cause, AnswerUnusable):
            raise cause from None
        raise ProviderUnavailable(
            f"the provider {NAME!r} gave no usable answer: {kind_of(cause)}, at {access.endpoint}",
            reached=type(cause).__name__ not in NOT_REACHED,
        ) from None


def _reaction(answer: ErrorAnswer, access: Access) -> ProviderError:
    return reaction_to(
        answer, provider=NAME, key_setting=access.key_name, endpoint_setting=access.endpoint_name, now=datetime.now(UTC)
    )


def body_of(content: bytes, *, endpoint: str) -> object:
    """The JSON of an answer. Raises AnswerUnusable."""
    try:
        return from_json(content)
    except ValueError:
        raise AnswerUnusable(f"the provider {NAME!r} answered no JSON, at {endpoint}") from None


def vectors_in(body: object, *, texts: int, access: Access) -> list[Vector]:
    """The vectors of an answer, in the order of the texts. Raises AnswerUnusable, or what an error in its body asks for."""
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(data, list):
        if isinstance(body, Mapping) and body.get("error"):
            raise _reaction(ErrorAnswer(200, body["error"], {}), access)
        raise AnswerUnusable(f"the provider {NAME!r} answered without vectors, at {access.endpoint}")
    if len(data) != texts:
        raise AnswerUnusable(f"{len(data)} vectors came for {texts} texts")
    found: dict[str, Vector] = {}
    for place, item in enumerate(data):
        if not isinstance(item, Mapping):
            raise AnswerUnusable("a vector came that is null")
        found[str(item.get("index", place))] = _vector(item.get("embedding"))
    if set(found) != {str(place) for place in range(texts)}:
        raise AnswerUnusable("the vectors that came are not numbered as the texts are")
    return [found[str(place)] for place in range(texts)]


def tokens_in(body: object) -> int | None:
    """The tokens of the texts, as the server has counted them; None where it does not say."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    tokens = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    return tokens if isinstance(tokens, int) and tokens > 0 else None


def _vector(value: object) -> Vector:
    if isinstance(value, str):
        try:
            floats = array(
                "f", base64.b64decode(value, validate=True)
            )  # little-endian, as every machine that runs this
        except (binascii.Error, ValueError):
            raise AnswerUnusable("a vector came that is no base64 of floats") from None
        return floats.tolist()
    return numbers(value)


def endpoint_of(values: Values) -> str:
    return usable_endpoint(values.get(SOURCE_ENDPOINT), setting=SOURCE_ENDPOINT, default=ENDPOINT)


def make_embedder(model: Model, values: Values) -> OpenAIEmbedder:
    key = values.get(KEY_SETTING)
    if not key and endpoint_of(values) == ENDPOINT:
        raise SourceRefused(
            "ProviderKeyMissing",
            f"spec.model.provider is {NAME!r} and {KEY_SETTING} is not set: set it, or {KEY_SETTING}_FILE, to a key of OpenAI, "
            f"or name another server by {SOURCE_ENDPOINT}",
        )
    return OpenAIEmbedder(
        model, api_key=usable_key(key, setting=KEY_SETTING) if key else None, endpoint=endpoint_of(values)
    )


PROVIDER = Provider(
    name=NAME,
    make=make_embedder,
    sdk_module="openai",
    extra=NAME,
    import_sdk=import_sdk,
    settings=(
        ProviderSetting(
            KEY_SETTING,
            "a key of OpenAI, or of another server with its API that needs one",
            secret=True,
            usable=partial(usable_key, setting=KEY_SETTING),
        ),
        *rate_limit_settings(NAME),
    ),
    endpoint=endpoint_of,
)
