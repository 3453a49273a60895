"""A provider that does as it is told. Called by the tests of whoever calls a provider."""

from collections.abc import Sequence

from embedding_worker.errors import ProviderError
from embedding_worker.providers.calls import ProviderCalls
from embedding_worker.providers.embedder import Vector
from tests.support.kept_rows import fake_vector


class FakeEmbedder:
    """Gives fake vectors, after it has failed as often as there are failures; notes what it was asked."""

    max_text_bytes = 1_000

    def __init__(self, *, max_texts: int = 64, failures: Sequence[ProviderError] = ()) -> None:
        self.max_texts = max_texts
        self.calls: list[list[str]] = []
        self._failures = list(failures)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.calls.append(list(texts))
        if self._failures:
            raise self._failures.pop(0)
        return [fake_vector(text) for text in texts]


async def take_all(texts: int, tokens: int) -> int:
    """No day has a limit."""
    return texts


def fake_calls(embedder: FakeEmbedder) -> ProviderCalls:
    return ProviderCalls(embedder, acquire_texts=take_all)
