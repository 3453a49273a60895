"""How long the event loop waits while large answers of a provider arrive. Called by __main__.py.

Everything else of the operator runs on the same loop, so an answer must not be read on it. The SDK is the real one.
"""

import asyncio
import time
from collections.abc import Mapping

from embedding_worker.clock import SystemClock
from embedding_worker.providers.accounts import ApiKey
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.providers.source_embedder import SourceEmbedder
from embedding_worker.source import Model
from hack.benchmarks.setting import Setting
from hack.provider_server.process import FakeGemini

CALLS = 100
IN_FLIGHT = 2
TEXTS = 256
DIMENSIONS = 1_536
EVERY_S = 0.002


def measure(setting: Setting) -> Mapping[str, float]:
    with FakeGemini(setting.folder) as server:
        endpoint = server.openai_url()
        keys = {"bench/key": ApiKey("bench/key", (endpoint,), server.api_key)}
        registry = ProviderRegistry(Credentials(keys=keys), clock=SystemClock(), observer=NoObserver())
        model = Model("openai", "text-embedding-3-small", DIMENSIONS, endpoint=endpoint, api_key_ref="bench/key")
        longest_s = asyncio.run(longest_lag(registry.embedder(model, source="bench")))
    return {"provider_loop_lag_ms": longest_s * 1_000}


async def longest_lag(embedder: SourceEmbedder) -> float:
    """Of a task that wakes every two milliseconds, during all calls."""
    await embedder.embed(["the first call imports the SDK"])
    lags: list[float] = []
    watch = asyncio.create_task(_watch(lags))
    callers = [_call(embedder, CALLS // IN_FLIGHT) for _ in range(IN_FLIGHT)]
    await asyncio.gather(*callers)
    watch.cancel()
    return max(lags)


async def _watch(lags: list[float]) -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(EVERY_S)
        lags.append(time.monotonic() - began - EVERY_S)


async def _call(embedder: SourceEmbedder, times: int) -> None:
    texts = [f"business {n}" for n in range(TEXTS)]
    for _ in range(times):
        await embedder.embed(texts)
