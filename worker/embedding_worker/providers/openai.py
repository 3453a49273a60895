"""Embeddings of OpenAI and of every server that speaks its API, through the openai SDK: TEI, infinity, Ollama, vLLM.

Called through the provider registry. The SDK repeats nothing and follows no redirect. Vectors are asked for in base64, which is a
third of the size of numbers and needs no parsing; servers that do not know it answer numbers, which are read too.
"""

import asyncio
import base64
import binascii
import json
import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from embedding_worker.errors import AnswerUnusable, ProviderError, ProviderUnavailable, SourceRefused
from embedding_worker.providers.embedder import Vector, at_unit_length, check_vectors
from embedding_worker.providers.http_settings import Access, access_of, usable_endpoint, usable_key
from embedding_worker.providers.openai_errors import ErrorAnswer, reaction_to
from embedding_worker.providers.provider import SOURCE_ENDPOINT, Provider, ProviderSetting, Values
from embedding_worker.providers.rate_limits import rate_limit_settings
from embedding_worker.source import Model

NAME = "openai"
KEY_SETTING = "OPENAI_API_KEY"
ENDPOINT = "https://api.openai.com/v1"
NO_KEY = "no-key-is-set"
"""The SDK refuses to start without one; servers that need none ignore it."""
TIMEOUT_S = 30.0
TAKES_DIMENSIONS = "text-embedding-3-"
"""The models that are asked for a number of dimensions. Other servers refuse the parameter, or give the model's own number."""


class OpenAIEmbedder:
    """Embeds without threads. Safe to call from several tasks at once."""

    # OpenAI accepts 2,048 texts and 300,000 tokens in a call (platform.openai.com, embeddings); of smaller servers the largest
    # accepted batch is learned.
    max_texts = 256
    # text-embedding-3 accepts 8,192 tokens a text, at three bytes of UTF-8 a token on the safe side.
    max_text_bytes = 24_000

    def __init__(self, model: Model, *, api_key: str | None, endpoint: str, timeout_s: float = TIMEOUT_S) -> None:
        """Raises SourceRefused for what can be seen to be wrong before any call."""
        if model.task_type is not None:
            raise SourceRefused(
                "TaskTypeUnknown",
                f"spec.model.taskType is {model.task_type!r}: the provider {NAME!r} has none, leave it out",
            )
        self._model = model
        self._api_key = api_key
        self._access = access_of(model, endpoint, key_setting=KEY_SETTING, endpoint_setting=SOURCE_ENDPOINT)
        self._timeout_s = timeout_s
        self._client: Any = None

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See Embedder.embed. The first call imports the SDK, in a thread and outside of the timeout."""
        if self._client is None:
            self._client = await asyncio.to_thread(make_client, self._api_key, self._access.endpoint)
        asked: dict[str, Any] = {"model": self._model.name, "input": list(texts), "encoding_format": "base64"}
        if self._model.name.startswith(TAKES_DIMENSIONS):
            asked["dimensions"] = self._model.dimensions
        try:
            async with asyncio.timeout(self._timeout_s):
                with translate_sdk_errors(self._access):
                    answer = await self._client.embeddings.with_raw_response.create(**asked)
                    content = answer.content
        except TimeoutError:
            raise ProviderUnavailable(
                f"the provider {NAME!r} gave no answer within {self._timeout_s:g} s, at {self._access.endpoint}"
            ) from None
        vectors = vectors_in(content, texts=len(texts), access=self._access)
        return at_unit_length(check_vectors(vectors, texts=len(texts), dimensions=self._model.dimensions))


def make_client(api_key: str | None, endpoint: str) -> Any:
    """A client with this key. Redirects are not followed: another server would get the key and the texts."""
    for name in ("openai", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at debug they log whole requests, the texts in them
    import openai

    http_client = openai.DefaultAsyncHttpxClient(follow_redirects=False)
    return openai.AsyncOpenAI(api_key=api_key or NO_KEY, base_url=endpoint, max_retries=0, http_client=http_client)


@contextmanager
def translate_sdk_errors(access: Access) -> Iterator[None]:
    """Translate the SDK's errors, which are not chained: they quote requests and answers."""
    import openai

    try:
        yield
    except ProviderError:
        raise
    except openai.APIStatusError as exc:
        answer = ErrorAnswer(exc.status_code, exc.body, exc.response.headers)
        raise _reaction(answer, access) from None
    except openai.APIConnectionError as exc:
        said = type(exc.__cause__ or exc).__name__
        raise ProviderUnavailable(
            f"the provider {NAME!r} gave no usable answer: {said}, at {access.endpoint}",
            reached=not said.startswith("Connect"),
        ) from None
    except openai.OpenAIError as exc:
        raise AnswerUnusable(
            f"the provider {NAME!r} gave no usable answer: {type(exc).__name__}, at {access.endpoint}"
        ) from None


def _reaction(answer: ErrorAnswer, access: Access) -> ProviderError:
    return reaction_to(
        answer, provider=NAME, key_setting=access.key_name, endpoint_setting=access.endpoint_name, now=datetime.now(UTC)
    )


def vectors_in(content: bytes, *, texts: int, access: Access) -> list[Vector]:
    """The vectors of an answer, in the order of the texts. Raises AnswerUnusable, or what an error in its body asks for."""
    try:
        body = json.loads(content)
    except ValueError:
        raise AnswerUnusable(f"the provider {NAME!r} answered no JSON, at {access.endpoint}") from None
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(data, list):
        if isinstance(body, Mapping) and body.get("error"):
            raise _reaction(ErrorAnswer(200, body["error"], {}), access)
        raise AnswerUnusable(f"the provider {NAME!r} answered without vectors, at {access.endpoint}")
    if len(data) != texts:
        raise AnswerUnusable(f"{len(data)} vectors came for {texts} texts")
    found: dict[int, Vector] = {}
    for place, item in enumerate(data):
        if not isinstance(item, Mapping):
            raise AnswerUnusable("a vector came that is null")
        found[item.get("index", place)] = _vector(item.get("embedding"))
    if set(found) != set(range(texts)):
        raise AnswerUnusable("the vectors that came are not numbered as the texts are")
    return [found[place] for place in range(texts)]


def _vector(value: object) -> Vector:
    if isinstance(value, str):
        try:
            floats = array(
                "f", base64.b64decode(value, validate=True)
            )  # little-endian, as every machine that runs this
        except (binascii.Error, ValueError):
            raise AnswerUnusable("a vector came that is no base64 of floats") from None
        return floats.tolist()
    if isinstance(value, list) and all(isinstance(number, (int, float)) for number in value):
        return [float(number) for number in value]
    raise AnswerUnusable("a vector came that is null, or no list of numbers")


def endpoint_of(values: Values) -> str:
    return usable_endpoint(values.get(SOURCE_ENDPOINT), setting=SOURCE_ENDPOINT, default=ENDPOINT)


def make_embedder(model: Model, values: Values) -> OpenAIEmbedder:
    key = values.get(KEY_SETTING)
    return OpenAIEmbedder(
        model, api_key=usable_key(key, setting=KEY_SETTING) if key else None, endpoint=endpoint_of(values)
    )


PROVIDER = Provider(
    name=NAME,
    make=make_embedder,
    sdk_module="openai",
    extra=NAME,
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
