"""How many texts the provider `local` embeds in a second: the businesses of the demo, in calls as large as it takes.

Called by __main__.py.
"""

import asyncio
import time
from collections.abc import Mapping

from embedding_worker.providers.local import DIMENSIONS, MODEL_NAME, NAME, LocalEmbedder
from embedding_worker.source import Model
from hack.benchmarks.listings import in_batches
from hack.benchmarks.setting import Setting
from hack.demo.data import businesses

TIMES = 3


def measure(setting: Setting) -> Mapping[str, float]:
    return {"local_texts_per_s": asyncio.run(texts_per_s())}


async def texts_per_s() -> float:
    """In the best of several runs over all businesses, after a call that loads the model."""
    embedder = LocalEmbedder(Model(NAME, MODEL_NAME, DIMENSIONS))
    await embedder.embed(["the model is loaded"])
    texts = [business.text for business in businesses()]
    took_s = []
    for _ in range(TIMES):
        began = time.monotonic()
        for batch in in_batches(texts, embedder.max_texts):
            await embedder.embed(batch)
        took_s.append(time.monotonic() - began)
    return len(texts) / min(took_s)
