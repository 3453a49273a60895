"""A provider that a test controls, and a day's limit. Called by the tests of what calls a provider."""

from collections.abc import Callable, Sequence

from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderError, ProviderThrottled
from embedding_worker.providers.calls import ProviderCalls
from embedding_worker.providers.embedder import Vector
from tests.support.kept_rows import fake_vector


class FakeEmbedder:
    """Returns fake vectors, after it has failed once for each of `failures`, and while `fails` gives no error for the texts.

    Records the texts of each call.
    """

    max_text_bytes = 1_000

    def __init__(
        self,
        *,
        max_texts: int = 64,
        failures: Sequence[ProviderError] = (),
        fails: Callable[[Sequence[str]], ProviderError | None] = lambda texts: None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.max_texts = max_texts
        self.calls: list[list[str]] = []
        self.fails = fails
        self.meanwhile = meanwhile
        """Happens during each call."""
        self.failures = list(failures)
        self.throttled_by: ProviderThrottled | None = None

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.calls.append(list(texts))
        self.meanwhile()
        error = self.failures.pop(0) if self.failures else self.fails(texts)
        if error is not None:
            raise error
        return [fake_vector(text) for text in texts]


class Day:
    """Allows so many texts, and records what was counted: texts and tokens of each call."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed
        self.counted: list[tuple[int, int]] = []

    async def acquire(self, texts: int, tokens: int) -> int:
        granted = min(texts, self.left)
        self.left -= granted
        self.counted.append((granted, tokens))
        return granted


async def acquire_all(texts: int, tokens: int) -> int:
    """A day without a limit."""
    return texts


def fake_calls(embedder: FakeEmbedder, *, clock: Clock) -> ProviderCalls:
    return ProviderCalls(embedder, acquire_texts=acquire_all, clock=clock)
