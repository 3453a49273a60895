"""A provider with one key, a registry that knows it alone, and what its calls are observed as. For tests of the registry."""

from dataclasses import dataclass, field
from datetime import datetime

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.circuit import CircuitState
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.provider import SOURCE_ENDPOINT, Provider, ProviderSetting, Values
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.rows.records import RateLimits
from embedding_worker.source import Model
from tests.support.fake_clock import FakeClock, let_time_pass
from tests.support.fake_provider import MODEL, FakeEmbedder

KEY = "FAKE_KEY"


def endpoint(values: Values) -> str:
    return values.get(SOURCE_ENDPOINT, "https://fake.example")


def usable_key(value: str) -> str:
    if not value.strip():
        raise SourceRefused("ProviderKeyInvalid", f"{KEY} holds no key")
    return value.strip()


@dataclass
class Observer:
    """Records what is observed, and on which clock time it took."""

    started: list[tuple[str, int]] = field(default_factory=list)
    finished: list[tuple[str, str, float]] = field(default_factory=list)
    circuits: list[tuple[str, CircuitState]] = field(default_factory=list)

    throttles: list[tuple[str, datetime]] = field(default_factory=list)
    limits: list[tuple[str, RateLimits]] = field(default_factory=list)
    usage: list[tuple[str, int, int]] = field(default_factory=list)

    def call_started(self, *, source: str, provider: str, texts: int, tokens: int) -> None:
        self.started.append((source, texts))
        self.usage.append((provider, texts, tokens))

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        self.finished.append((source, outcome, seconds))

    def circuit_changed(self, *, circuit: str, state: CircuitState) -> None:
        self.circuits.append((circuit, state))

    def limits_set(self, *, provider: str, limits: RateLimits) -> None:
        self.limits.append((provider, limits))

    def throttled(self, *, provider: str, until: datetime) -> None:
        self.throttles.append((provider, until))


@dataclass
class KeyedProvider:
    """A provider with one key; records the embedders that it made, with the key of each."""

    made: list[tuple[Model, str, FakeEmbedder]] = field(default_factory=list)

    def make(self, model: Model, values: Values) -> FakeEmbedder:
        if model.name == "unknown":
            raise SourceRefused("ModelUnknown", "there is no such model")
        embedder = FakeEmbedder()
        self.made.append((model, values[KEY], embedder))
        return embedder

    def registration(self) -> Provider:
        setting = ProviderSetting(KEY, "a key of the fake", secret=True, required=True, usable=usable_key)
        return Provider("fake", self.make, settings=(setting,), endpoint=endpoint)

    def client(self, key: str = "old", *, model: str = "one") -> FakeEmbedder:
        """The one embedder that was made with this key for this model."""
        (found,) = (embedder for made, made_with, embedder in self.made if (made_with, made.name) == (key, model))
        return found


class KeyedSystem:
    """A registry with this provider; by default its key is "old"."""

    def __init__(self, **values: str) -> None:
        self.clock, self.observer, self.provider = FakeClock(), Observer(), KeyedProvider()
        self.registry = ProviderRegistry(
            Credentials(values or {KEY: "old"}),
            clock=self.clock,
            observer=self.observer,
            providers={"fake": self.provider.registration()},
        )

    async def embed(self, *texts: str, source: str = "shops") -> list[Vector]:
        embedder = self.registry.embedder(MODEL, source=source)
        return await let_time_pass(self.clock, embedder.embed(texts))
