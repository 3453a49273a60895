"""Embeds the search texts of one request: from the cache, by a call that is being made already, or by calls of its own.

Called by http_server.py. It keeps the limits of this process. Texts are never logged, and are kept only while they are sent.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.serve.messages import MOST_TEXTS, EmbeddingsRequest, RequestRefused, invalid
from embedding_operator.serve.metrics import ServeMetrics, TextOrigin
from embedding_operator.serve.model_calls import ModelCalls
from embedding_operator.serve.packed_vectors import Key, PackedVector, VectorCache, key_of
from embedding_operator.serve.rate import Allowance
from embedding_operator.serve.refusals import not_set_up, rate_limited, unknown_model
from embedding_operator.serve.served_models import ServedModel, ServedModels
from embedding_worker.clock import Clock
from embedding_worker.errors import SourceRefused
from embedding_worker.source import TooLong
from embedding_worker.text import fit_text


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
        texts_per_minute: int,
        cached_vectors: int,
        clock: Clock,
        metrics: ServeMetrics,
    ) -> None:
        self._models = models
        self._calls = ModelCalls(clock=clock)
        self._cache = VectorCache(cached_vectors)
        self._allowance = Allowance(texts_per_minute, now=clock.monotonic(), least_burst=MOST_TEXTS)
        self._in_flight: dict[Key, asyncio.Task[dict[Key, PackedVector]]] = {}
        self._clock = clock
        self._metrics = metrics

    async def embed(self, asked: EmbeddingsRequest, sources: Mapping[str, EmbeddingSource]) -> Embedded:
        """Raises RequestRefused."""
        served = self._served(asked, sources)
        sent = [fitted(text, number, served) for number, text in enumerate(asked.texts)]
        keys = [key_of(served.model, text) for text in sent]
        found = await self._vectors(served, dict(zip(keys, sent, strict=True)))
        return Embedded([found[key] for key in keys], sent)

    def _served(self, asked: EmbeddingsRequest, sources: Mapping[str, EmbeddingSource]) -> ServedModel:
        if asked.model not in sources:
            raise unknown_model(sorted(sources))
        try:
            served = self._models.of(sources[asked.model])
        except SourceRefused as exc:
            raise not_set_up(exc) from None
        if asked.dimensions not in (None, served.model.dimensions):
            raise invalid(
                f"dimensions is {asked.dimensions}, and {asked.model} has {served.model.dimensions}: leave it out",
                param="dimensions",
            )
        return served

    async def _vectors(self, served: ServedModel, texts: Mapping[Key, str]) -> dict[Key, PackedVector]:
        """The vectors of texts of which each is there once."""
        found = {key: vector for key in texts if (vector := self._cache.get(key)) is not None}
        shared = {key: self._in_flight[key] for key in texts if key not in found and key in self._in_flight}
        own = {key: text for key, text in texts.items() if key not in found and key not in shared}
        began = self._begin(served, own)
        self._metrics.record_texts(served.source, TextOrigin.CACHE, len(found))
        self._metrics.record_texts(served.source, TextOrigin.SHARED_CALL, len(shared))
        found |= await self._of_others(served, shared, texts)
        for task in began:
            found |= await asyncio.shield(task)
        return found

    async def _of_others(
        self,
        served: ServedModel,
        shared: Mapping[Key, asyncio.Task[dict[Key, PackedVector]]],
        texts: Mapping[Key, str],
    ) -> dict[Key, PackedVector]:
        """From calls of other requests. If one is refused, another text of it may be the reason: it is sent again alone."""
        found: dict[Key, PackedVector] = {}
        for key, task in shared.items():
            try:
                vectors = await asyncio.shield(task)
            except RequestRefused as exc:
                if exc.status != 400:
                    raise
                (again,) = self._begin(served, {key: texts[key]})
                vectors = await asyncio.shield(again)
            found[key] = vectors[key]
        return found

    def _begin(self, served: ServedModel, texts: Mapping[Key, str]) -> list[asyncio.Task[dict[Key, PackedVector]]]:
        """Begin as many calls as these texts need. They go on if the client that has asked goes away, for others who ask."""
        if not texts:
            return []
        self._calls.refuse_if_paused(served)
        wait_s = self._allowance.acquire(len(texts), self._clock.monotonic())
        if wait_s > 0:
            raise rate_limited("as many texts were sent to models as EMBEDDING_SERVE_TEXTS_PER_MINUTE allows", wait_s)
        self._metrics.record_texts(served.source, TextOrigin.CALL, len(texts))
        keys, size = list(texts), served.embedder.max_texts
        parts = [keys[start : start + size] for start in range(0, len(keys), size)]
        return [self._begin_one(served, {key: texts[key] for key in part}) for part in parts]

    def _begin_one(self, served: ServedModel, texts: Mapping[Key, str]) -> asyncio.Task[dict[Key, PackedVector]]:
        task = asyncio.create_task(self._call(served, texts), name="embed search texts")
        self._in_flight |= dict.fromkeys(texts, task)
        task.add_done_callback(_observe)
        return task

    async def _call(self, served: ServedModel, texts: Mapping[Key, str]) -> dict[Key, PackedVector]:
        try:
            vectors = await self._calls.embed(served, list(texts.values()))
        finally:
            for key in texts:
                self._in_flight.pop(key, None)
        made = dict(zip(texts, vectors, strict=True))
        for key, vector in made.items():
            self._cache.put(key, vector)
        return made


def _observe(task: asyncio.Task[dict[Key, PackedVector]]) -> None:
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
