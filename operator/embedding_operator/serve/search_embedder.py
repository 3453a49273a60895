"""Embeds the search texts of one request: from the cache, by a call that is being made already, or by calls of its own.

Called by http_server.py. It keeps the limits of this process. Texts are never logged, and are kept only while they are sent.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.serve.messages import MOST_TEXTS, EmbeddingsRequest, invalid
from embedding_operator.serve.metrics import ServeMetrics, TextOrigin
from embedding_operator.serve.model_calls import ModelCalls, Outcome
from embedding_operator.serve.packed_vectors import Key, PackedVector, VectorCache, key_of
from embedding_operator.serve.rate import Allowance
from embedding_operator.serve.refusals import not_set_up, rate_limited, refused_text, unknown_model
from embedding_operator.serve.served_models import ServedModel, ServedModels
from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderError, SourceRefused
from embedding_worker.source import TooLong
from embedding_worker.text import fit_text

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Embedded:
    """The vectors of a request, in its order."""

    vectors: list[PackedVector]
    sent: list[str]
    """The texts as they were sent to the model, each once for each time that it was asked for."""


class SearchEmbedder:
    def __init__(
        self,
        models: ServedModels,
        *,
        namespace: str,
        texts_per_minute: int,
        cached_vectors: int,
        clock: Clock,
        metrics: ServeMetrics,
    ) -> None:
        self._models = models
        self._namespace = namespace
        self._calls = ModelCalls()
        self._cache = VectorCache(cached_vectors)
        self._allowance = Allowance(texts_per_minute, now=clock.monotonic(), least_burst=MOST_TEXTS)
        self._in_flight: dict[Key, asyncio.Task[dict[Key, Outcome]]] = {}
        self._logged: dict[str, str] = {}
        """Why sources that were asked for cannot be used, as it was logged."""
        self._clock = clock
        self._metrics = metrics

    async def embed(self, asked: EmbeddingsRequest, sources: Mapping[str, EmbeddingSource]) -> Embedded:
        """Raises RequestRefused."""
        served = self._served(asked, sources)
        sent = [fitted(text, number, served) for number, text in enumerate(asked.texts)]
        keys = [key_of(served.model, text) for text in sent]
        found = await self._vectors(served, dict(zip(keys, sent, strict=True)))
        return Embedded([_vector(found[key], number) for number, key in enumerate(keys)], sent)

    def _served(self, asked: EmbeddingsRequest, sources: Mapping[str, EmbeddingSource]) -> ServedModel:
        if asked.model not in sources:
            raise unknown_model(asked.model, sorted(sources), namespace=self._namespace)
        try:
            served = self._models.of(sources[asked.model])
        except SourceRefused as exc:
            self._log_once(asked.model, exc)
            raise not_set_up(asked.model, exc) from None
        self._logged.pop(asked.model, None)
        if asked.dimensions not in (None, served.model.dimensions):
            raise invalid(
                f"dimensions is {asked.dimensions}, and {asked.model} has {served.model.dimensions}: leave it out",
                param="dimensions",
            )
        return served

    def _log_once(self, source: str, error: SourceRefused) -> None:
        if self._logged.get(source) != error.message:
            self._logged[source] = error.message
            log.warning("source cannot be used", source=source, reason=error.reason, message=error.message)

    async def _vectors(self, served: ServedModel, texts: Mapping[Key, str]) -> dict[Key, Outcome]:
        """What became of texts of which each is there once."""
        found: dict[Key, Outcome] = {key: vector for key in texts if (vector := self._cache.get(key)) is not None}
        shared = {key: self._in_flight[key] for key in texts if key not in found and key in self._in_flight}
        own = {key: text for key, text in texts.items() if key not in found and key not in shared}
        began = self._begin(served, own)
        self._metrics.record_texts(served.source, TextOrigin.CACHE, len(found))
        self._metrics.record_texts(served.source, TextOrigin.SHARED_CALL, len(shared))
        for task in dict.fromkeys((*shared.values(), *began)):
            found |= await asyncio.shield(task)
        return found

    def _begin(self, served: ServedModel, texts: Mapping[Key, str]) -> list[asyncio.Task[dict[Key, Outcome]]]:
        """Begin as many calls as these texts need. They go on if the client that has asked goes away, for others who ask."""
        if not texts:
            return []
        self._calls.refuse_if_paused(served)
        wait_s = self._allowance.acquire(len(texts), self._clock.monotonic())
        if wait_s > 0:
            raise rate_limited("as many texts were sent to models as EMBEDDING_SERVE_TEXTS_PER_MINUTE allows", wait_s)
        self._metrics.record_texts(served.source, TextOrigin.CALL, len(texts))
        keys = {text: key for key, text in texts.items()}
        calls = self._calls.calls_of(served, texts.values())
        return [self._begin_one(served, {keys[text]: text for text in call}) for call in calls]

    def _begin_one(self, served: ServedModel, texts: Mapping[Key, str]) -> asyncio.Task[dict[Key, Outcome]]:
        task = asyncio.create_task(self._call(served, texts), name="embed search texts")
        self._in_flight |= dict.fromkeys(texts, task)
        task.add_done_callback(_observe)
        return task

    async def _call(self, served: ServedModel, texts: Mapping[Key, str]) -> dict[Key, Outcome]:
        try:
            outcomes = await self._calls.embed(served, list(texts.values()))
        finally:
            for key in texts:
                self._in_flight.pop(key, None)
        found = {key: outcomes[text] for key, text in texts.items()}
        for key, outcome in found.items():
            if not isinstance(outcome, ProviderError):
                self._cache.put(key, outcome)
        return found


def _vector(outcome: Outcome, number: int) -> PackedVector:
    """Raises RequestRefused if the model refuses the text, which is the one of this number in the request."""
    if isinstance(outcome, ProviderError):
        raise refused_text(number)
    return outcome


def _observe(task: asyncio.Task[dict[Key, Outcome]]) -> None:
    """No one may wait for it any more, and asyncio would log its error, with the call."""
    if not task.cancelled():
        task.exception()


def fitted(text: str, number: int, served: ServedModel) -> str:
    """The text as it is sent: after the prefix, and cut as those of rows are. Raises RequestRefused where those are refused."""
    sent = served.model.query_prefix + text
    size, most = len(sent.encode()), served.embedder.max_text_bytes
    if size > most and served.model.too_long is TooLong.REFUSE:
        raise invalid(
            f"input[{number}] has {size} bytes with its prefix, and the model accepts {most}: shorten it", param="input"
        )
    return fit_text(sent, whole_bytes=size, max_bytes=most, too_long=TooLong.TRUNCATE)
