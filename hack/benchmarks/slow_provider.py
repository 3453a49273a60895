"""A provider that answers each call after 200 ms, or as set, and costs nothing else: the operator's own work is measured.

It is no provider of the product: installed_provider.py registers it for the processes that a benchmark starts. The module is
copied, so it imports the worker package only.
"""

import asyncio
import hashlib
import random
from collections.abc import Sequence

from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.provider import Provider, ProviderSetting, Values
from embedding_worker.source import Model

NAME, MODEL_NAME, DIMENSIONS = "benchmark", "benchmark-1", 768
LATENCY_SETTING = "BENCHMARK_LATENCY_MS"
"""Of a process that a benchmark starts."""
LATENCY_MS = 200
AT_ONCE = {LATENCY_SETTING: "0"}
"""Settings with which a call takes no time: what is measured is the operator's."""
NEVER = {LATENCY_SETTING: "3600000"}
"""With which no call ends before its process is ended."""
DIFFERENT_VECTORS = 64


def make_vectors() -> list[Vector]:
    """Always the same, at unit length, with as many digits as a real model's have."""
    numbers = random.Random(1)  # noqa: S311  # no secret depends on it
    made: list[Vector] = []
    for _ in range(DIFFERENT_VECTORS):
        vector = [numbers.gauss(0, 1) for _ in range(DIMENSIONS)]
        length = sum(value * value for value in vector) ** 0.5
        made.append([value / length for value in vector])
    return made


class SlowEmbedder:
    max_texts = 100
    max_text_bytes = 8_000

    def __init__(self, model: Model, values: Values) -> None:
        self._vectors = make_vectors()
        self._latency_s = float(values.get(LATENCY_SETTING, LATENCY_MS)) / 1000

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        await asyncio.sleep(self._latency_s)
        return [self._vectors[hashlib.sha256(text.encode()).digest()[0] % DIFFERENT_VECTORS] for text in texts]


PROVIDER = Provider(
    name=NAME, make=SlowEmbedder, settings=(ProviderSetting(LATENCY_SETTING, "how long a call takes, in milliseconds"),)
)
