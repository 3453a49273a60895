"""Google's Gemini embeddings, through the google-generativeai SDK over REST. Called through the provider registry.

The SDK's async REST transport is broken, so each of its blocking calls runs in a thread of its own, and is aborted at its
deadline or when its task is cancelled. The key is in a client of this module's own, because the SDK's global client can't
change it.
"""

import asyncio
import importlib
import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from embedding_worker.errors import ProviderError, ProviderUnavailable
from embedding_worker.providers.blocking_call import BlockingCall
from embedding_worker.providers.bounded_answer import most_bytes_for
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

NAME = "gemini"
SDK = "google.generativeai"


class GeminiEmbedder:
    """Embeds with a thread for each call. Safe to call from several tasks at once."""

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
        """See Embedder.embed. A client is made first, unless that was done before, which the timeout leaves out.

        At the timeout, and when its task is cancelled, the call is aborted, and its thread ends.
        """
        await self.prepare()
        client = self._client
        call = BlockingCall(NAME)
        call.most_bytes = most_bytes_for(len(texts), self._dimensions)
        try:
            async with asyncio.timeout(
                self._timeout_s
            ):  # the SDK's own timeout begins again with each part of an answer
                return await call.run(partial(self._call, call, client, list(texts)))
        except TimeoutError:
            raise ProviderUnavailable(
                f"the provider {NAME!r} gave no answer within {self._timeout_s:g} s, at {self._access.endpoint}",
                reached=call.reached,
                timed_out=True,
            ) from None

    async def prepare(self) -> None:
        """Make the client, unless that was done before."""
        if self._client is None:
            await BlockingCall(NAME).run(self._make_ready)

    def _make_ready(self) -> None:
        with self._making, translate_sdk_errors(self._access, BlockingCall(NAME)):
            if self._client is None:
                self._client = self._make_client()

    def _call(self, call: BlockingCall, client: Any, texts: Sequence[str]) -> list[Vector]:
        # Not genai.embed_content: it would read the vectors from what the SDK has parsed.
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
            client.batch_embed_contents(
                protos.BatchEmbedContentsRequest(model=self._model, requests=requests),
                retry=None,
                timeout=self._timeout_s,
            )
        return vectors_in(call.answer or b"", provider=NAME, texts=len(texts), dimensions=self._dimensions)


def import_sdk(module: str) -> None:
    """Import the SDK. Its notice of its end of support would be eight lines on stderr between the lines of the log."""
    warnings.filterwarnings("ignore", message=r"\s*All support for the `google.generativeai`", category=FutureWarning)
    logging.getLogger("google").setLevel(logging.WARNING)  # at debug it logs whole requests, the texts in them
    importlib.import_module(module)
    for name in ("google.auth.api_key", "embedding_worker.providers.abortable_http"):
        importlib.import_module(name)  # the SDK imports the first one for a client


def make_client(api_key: str, endpoint: str) -> Any:
    """A client with this key, separate from the SDK's global one. The REST transport takes http:// as part of the endpoint."""
    import_sdk(SDK)
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
        answered, now = call.answer is not None, datetime.now(UTC)
        raise reaction_to_failure(
            exc, provider=NAME, access=access, reached=call.reached, answered=answered, now=now
        ) from None


def make_embedder(model: Model, values: Values) -> GeminiEmbedder:
    return GeminiEmbedder(model, api_key=values[KEY_SETTING], endpoint=endpoint_of(values))


PROVIDER = Provider(
    name=NAME,
    make=make_embedder,
    sdk_module=SDK,
    extra=NAME,
    import_sdk=import_sdk,
    settings=SETTINGS,
    limits_name=LIMITS_NAME,
    endpoint=endpoint_of,
    has_own_models=True,
    query_task_type=query_task_type,
)
