"""Google's Gemini embeddings, through the google-generativeai SDK over REST. Called through the provider registry.

The SDK's async REST transport is broken, so each of its blocking calls runs in a thread of its own, and is aborted at its
deadline or when its task is cancelled. The key is in a client of this module's own, because the SDK's global client can't
change it.
"""

import asyncio
import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from embedding_worker.errors import AnswerUnusable, ProviderError, ProviderUnavailable, SourceRefused
from embedding_worker.providers.blocking_call import BlockingCall
from embedding_worker.providers.embedder import Vector, at_unit_length, check_vectors
from embedding_worker.providers.google_errors import ErrorAnswer, reaction_to
from embedding_worker.providers.http_settings import Access, access_of, usable_endpoint, usable_key
from embedding_worker.providers.provider import SOURCE_ENDPOINT, Provider, ProviderSetting, Values
from embedding_worker.providers.rate_limits import rate_limit_settings
from embedding_worker.source import Model

NAME = "gemini"
KEY_SETTING = "GEMINI_API_KEY"
ENDPOINT_SETTING = "EMBEDDING_GEMINI_ENDPOINT"
MODEL_NAME = "gemini-embedding-001"
MOST_DIMENSIONS = 3072
ENDPOINT = "https://generativelanguage.googleapis.com"
TASK_TYPE = "RETRIEVAL_DOCUMENT"
QUERY_TASK_TYPE = "RETRIEVAL_QUERY"
# The SDK's own enum; a newer name would be refused by it at each call.
TASK_TYPES = {TASK_TYPE, QUERY_TASK_TYPE, "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING"} | {
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
}
TIMEOUT_S = 15.0


class GeminiEmbedder:
    """Embeds with a thread for each call. Safe to call from several tasks at once."""

    max_texts = 100  # of batchEmbedContents: with more it answers "at most 100 requests can be in one batch"
    # The model accepts 2,048 tokens (ai.google.dev, gemini-embedding-001) and silently ignores the others; at three bytes
    # of UTF-8 a token, which is on the safe side for most languages, that is a little over 6,000 bytes.
    max_text_bytes = 6_000

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
        """See Embedder.embed. The first call imports the SDK (one to four seconds), which the timeout leaves out.

        At the timeout, and when its task is cancelled, the call is aborted, and its thread ends.
        """
        client = self._client or await BlockingCall(NAME).run(self._ready_client)
        call = BlockingCall(NAME)
        try:
            async with asyncio.timeout(
                self._timeout_s
            ):  # the SDK's own timeout begins again with each part of an answer
                return await call.run(partial(self._call, call, client, list(texts)))
        except TimeoutError:
            raise ProviderUnavailable(
                f"the provider {NAME!r} gave no answer within {self._timeout_s:g} s, at {self._access.endpoint}",
                reached=call.reached,
            ) from None

    def _ready_client(self) -> Any:
        with self._making, translate_sdk_errors(self._access, BlockingCall(NAME)):
            if self._client is None:
                self._client = self._make_client()
        return self._client

    def _call(self, call: BlockingCall, client: Any, texts: Sequence[str]) -> list[Vector]:
        # Not genai.embed_content: it turns each float into text and back, which doubles the time of the whole call.
        with translate_sdk_errors(self._access, call):
            from google.generativeai import protos

            requests = [
                protos.EmbedContentRequest(
                    model=self._model,
                    content=protos.Content(parts=[protos.Part(text=text)]),
                    task_type=self._task_type,
                    output_dimensionality=self._dimensions,
                )
                for text in texts
            ]
            answer = client.batch_embed_contents(
                protos.BatchEmbedContentsRequest(model=self._model, requests=requests),
                retry=None,
                timeout=self._timeout_s,
            )
            vectors = [list(embedding.values) for embedding in answer.embeddings]
        # They come at unit length for 3072 dimensions only.
        return at_unit_length(check_vectors(vectors, texts=len(texts), dimensions=self._dimensions))


def make_client(api_key: str, endpoint: str) -> Any:
    """A client with this key, separate from the SDK's global one. The REST transport takes http:// as part of the endpoint."""
    # The SDK's notice of its end of support would be eight lines on stderr between the lines of the log.
    warnings.filterwarnings("ignore", message=r"\s*All support for the `google.generativeai`", category=FutureWarning)
    logging.getLogger("google").setLevel(logging.WARNING)  # at debug it logs whole requests, the texts in them
    import google.generativeai  # noqa: F401 (the call needs it: now, and not within its timeout)
    from google.ai.generativelanguage import GenerativeServiceClient

    from embedding_worker.providers.abortable_http import make_abortable

    client = GenerativeServiceClient(transport="rest", client_options={"api_key": api_key, "api_endpoint": endpoint})
    transport: Any = client.transport
    make_abortable(transport._session)
    return client


@contextmanager
def translate_sdk_errors(access: Access, call: BlockingCall) -> Iterator[None]:
    """Translate the SDK's errors, which are not chained: they quote requests and answers."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as exc:
        raise reaction_to_sdk_error(exc, call, access=access, now=datetime.now(UTC)) from None


def reaction_to_sdk_error(error: Exception, call: BlockingCall, *, access: Access, now: datetime) -> ProviderError:
    """By the answer that the error carries; without one (no connection, no answer in time) it is an outage."""
    response = getattr(error, "response", None)
    http_code = getattr(response, "status_code", None)
    if response is None or not isinstance(http_code, int):
        # Its class is enough: ConnectTimeout, SSLError, ParseError. Its message would quote the request.
        message = f"the provider {NAME!r} gave no usable answer: {type(error).__name__}, at {access.endpoint}"
        return AnswerUnusable(message) if call.answered else ProviderUnavailable(message, reached=call.reached)
    try:
        payload = response.json()
    except ValueError:
        payload = None
    answer = ErrorAnswer(http_code, payload, response.headers.get("Retry-After"))
    return reaction_to(
        answer, provider=NAME, key_setting=access.key_name, endpoint_setting=access.endpoint_name, now=now
    )


def known_model(model: Model) -> str:
    """The model's name as the API has it. Raises SourceRefused."""
    name = model.name.removeprefix("models/")
    if name.startswith("gemini-embedding-2"):
        raise SourceRefused(
            "ModelUnknown",
            f"spec.model.name is {model.name!r}, which needs its task written into each text, and this version does not "
            f"write it: set {MODEL_NAME!r}",
        )
    if name != MODEL_NAME:
        raise SourceRefused(
            "ModelUnknown", f"spec.model.name is {model.name!r}: the provider {NAME!r} has {MODEL_NAME!r}"
        )
    if not 1 <= model.dimensions <= MOST_DIMENSIONS:
        raise SourceRefused(
            "WrongDimensions",
            f"spec.model.dimensions is {model.dimensions}: {MODEL_NAME} gives 1 to {MOST_DIMENSIONS}, best 768, 1536 or 3072",
        )
    return f"models/{name}"


def query_task_type(model: Model) -> str:
    """Documents are found by queries; the other tasks treat both texts alike."""
    return QUERY_TASK_TYPE if known_task_type(model) == TASK_TYPE else known_task_type(model)


def known_task_type(model: Model) -> str:
    task_type = model.task_type or TASK_TYPE
    if task_type not in TASK_TYPES:
        raise SourceRefused(
            "TaskTypeUnknown",
            f"spec.model.taskType is {task_type!r}: the provider {NAME!r} has {', '.join(sorted(TASK_TYPES))}",
        )
    return task_type


def endpoint_of(values: Values) -> str:
    given = values.get(SOURCE_ENDPOINT) or values.get(ENDPOINT_SETTING)
    return usable_endpoint(given, setting=ENDPOINT_SETTING, default=ENDPOINT)


def make_embedder(model: Model, values: Values) -> GeminiEmbedder:
    return GeminiEmbedder(model, api_key=values[KEY_SETTING], endpoint=endpoint_of(values))


PROVIDER = Provider(
    name=NAME,
    make=make_embedder,
    sdk_module="google.generativeai",
    extra=NAME,
    settings=(
        ProviderSetting(
            KEY_SETTING,
            "a key of the Gemini API",
            secret=True,
            required=True,
            usable=partial(usable_key, setting=KEY_SETTING),
        ),
        ProviderSetting(ENDPOINT_SETTING, "the address of another server that answers as Google's does"),
        *rate_limit_settings(NAME),
    ),
    endpoint=endpoint_of,
    has_own_models=True,
    query_task_type=query_task_type,
)
