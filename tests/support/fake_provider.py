"""A provider that a test controls, and a day's limit. Called by the tests of what calls a provider."""

import asyncio
from collections.abc import Callable, Sequence

from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderError
from embedding_worker.limits import Granted, Reached
from embedding_worker.providers.calls import ProviderCalls
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.embedder import CountedVectors, Vector
from embedding_worker.providers.gate import CallGate
from embedding_worker.providers.meter import Counters, Meter
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.provider import Provider
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.providers.shared_embedder import SharedEmbedder
from embedding_worker.rows.records import RateGrant, UsageNote
from embedding_worker.source import Model
from tests.support.kept_rows import fake_vector

MODEL = Model("fake", "one", 3)


class FakeEmbedder:
    """Returns fake vectors, after it has failed once for each of `failures`, and while `fails` gives no error for the texts.

    Records the texts of each call. Canaries are counted apart, and use up none of `failures`.
    """

    max_text_bytes = 1_000

    def __init__(
        self,
        *,
        max_texts: int = 64,
        max_call_bytes: int | None = None,
        failures: Sequence[ProviderError] = (),
        fails: Callable[[Sequence[str]], ProviderError | None] = lambda texts: None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.max_texts = max_texts
        self.max_call_bytes = max_call_bytes
        self.tokens_a_text: int | None = None
        """As it reports them with its vectors; None if it reports none."""
        self.calls: list[list[str]] = []
        self.canaries = 0
        self.fails = fails
        self.meanwhile = meanwhile
        """Happens during each call."""
        self.held: asyncio.Event | None = None
        """While it is not set, no call is answered."""
        self.canary_held: asyncio.Event | None = None
        """The same for canaries."""
        self.failures = list(failures)
        self.canary_failures: list[ProviderError] = []

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        failures = self.failures
        if list(texts) == [CANARY]:
            self.canaries += 1
            failures = self.canary_failures
            if self.canary_held is not None:
                await self.canary_held.wait()
        else:
            self.calls.append(list(texts))
            self.meanwhile()
            if self.held is not None:
                await self.held.wait()
        error = failures.pop(0) if failures else self.fails(texts)
        if error is not None:
            raise error
        vectors: list[Vector] = [fake_vector(text) for text in texts]
        reports = self.tokens_a_text
        return vectors if reports is None else CountedVectors(vectors, tokens=reports * len(texts))


class Day:
    """Allows so many texts, and records what was counted: texts and tokens of each call."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed
        self.counted: list[tuple[int, int]] = []
        self.notes: list[UsageNote] = []

    async def acquire(self, tokens: Sequence[int]) -> Granted:
        granted = min(len(tokens), self.left)
        self.left -= granted
        self.counted.append((granted, tokens[-1]))
        return Granted(
            granted, None if granted == len(tokens) else Reached("DayLimitReached", "spec.limits.textsPerDay")
        )

    async def give_back(self, texts: int, tokens: int, counted_s_ago: float) -> None:
        self.left += texts
        self.counted.append((-texts, -tokens))

    async def record_usage(self, notes: Sequence[UsageNote]) -> None:
        self.notes.extend(notes)

    @property
    def counters(self) -> Counters:
        return Counters(self.acquire, self.give_back, unlimited, self.record_usage)


async def unlimited(texts: int, tokens: int, longest_wait_s: float) -> RateGrant:
    """A provider without rate limits."""
    return RateGrant(granted=True, wait_s=0.0)


def shared_embedder(embedder: FakeEmbedder, *, clock: Clock) -> SharedEmbedder:
    """The embedder of a source whose provider's only client is this one."""
    provider = Provider("fake", lambda model, values: embedder)
    registry = ProviderRegistry(Credentials({}), clock=clock, observer=NoObserver(), providers={"fake": provider})
    return registry.embedder(MODEL, source="shops")


def gated_calls(
    embedder: SharedEmbedder, *, clock: Clock, counters: Counters | None = None
) -> tuple[ProviderCalls, CallGate]:
    meter = Meter(counters or Day(1_000_000).counters, clock=clock)
    gate = CallGate(embedder, meter, clock=clock)
    return ProviderCalls(embedder, gate, meter, clock=clock), gate


def fake_calls(embedder: FakeEmbedder, *, clock: Clock) -> ProviderCalls:
    calls, _ = gated_calls(shared_embedder(embedder, clock=clock), clock=clock)
    return calls
