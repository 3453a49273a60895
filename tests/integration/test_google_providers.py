"""What the providers on Google's two SDKs have of their own, with the real SDKs and a server that answers as the API does.

tests/integration/test_provider_contract.py has what they share with all providers that call a server.
"""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from embedding_worker.clock import SystemClock
from embedding_worker.errors import (
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    Quota,
)
from embedding_worker.providers.embedder import Embedder
from embedding_worker.providers.gemini import GeminiEmbedder
from embedding_worker.providers.google_genai import GoogleGenaiEmbedder
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.source import Model
from hack.provider_server.faults import FaultKind
from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import hash_of
from hack.provider_server.vectors import fake_vector

pytest.importorskip("google.generativeai")
pytest.importorskip("google.genai")

KEY = "k3y-of-Somebody"
CLASSES: dict[str, Any] = {"gemini": GeminiEmbedder, "google-genai": GoogleGenaiEmbedder}
SAME_WITHIN = 1e-6
"""The SDK's floats have 24 bits."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path_factory.mktemp("fake-gemini"), api_key=KEY) as started:
        yield started


@pytest.fixture
def gemini(server: FakeGemini, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGemini]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.lift()


@dataclass(frozen=True)
class Maker:
    """Makes embedders of one provider, for the fake server."""

    provider: str
    endpoint: str

    def __call__(self, *, dimensions: int = 768, key: str = KEY) -> Embedder:
        model = Model(self.provider, "gemini-embedding-001", dimensions)
        made: Embedder = CLASSES[self.provider](model, api_key=key, endpoint=self.endpoint)
        return made


@pytest.fixture(params=CLASSES)
def embedder(request: pytest.FixtureRequest, gemini: FakeGemini) -> Maker:
    return Maker(request.param, gemini.url)


async def failure(embedder: Embedder, *texts: str) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await embedder.embed(texts)
    return raised.value


def at_unit_length(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


@pytest.mark.parametrize("dimensions", [1, 768, 3072])
async def test_a_hundred_texts_get_their_own_vectors_in_order_at_unit_length(
    gemini: FakeGemini, embedder: Maker, dimensions: int
) -> None:
    texts = [f"business {n}: 鮨, Löwe, نخلة" for n in range(99)] + ["business 0: 鮨, Löwe, نخلة"]
    vectors = await embedder(dimensions=dimensions).embed(texts)
    assert len(vectors) == 100
    for text, vector in zip(texts, vectors, strict=True):
        assert list(vector) == pytest.approx(at_unit_length(fake_vector(text, dimensions)), abs=SAME_WITHIN)
        assert math.hypot(*vector) == pytest.approx(1, abs=SAME_WITHIN)
        assert {type(value) for value in vector} == {float}


async def test_the_registry_makes_it_from_the_settings_and_rotates_its_key(gemini: FakeGemini, embedder: Maker) -> None:
    values = {"GEMINI_API_KEY": "another-key", "EMBEDDING_GEMINI_ENDPOINT": gemini.url}
    registry = ProviderRegistry(Credentials(values), clock=SystemClock(), observer=NoObserver())
    made = registry.embedder(Model(embedder.provider, "models/gemini-embedding-001", 4), source="businesses")
    with pytest.raises(ProviderMisconfigured) as refused:
        await made.embed(["one"])
    assert refused.value.reason == "ApiKeyInvalid"
    await registry.rotate("GEMINI_API_KEY", KEY)
    assert len((await made.embed(["one"]))[0]) == 4


async def test_the_longest_texts_that_it_takes_go_through_in_one_call(gemini: FakeGemini, embedder: Maker) -> None:
    calls = gemini.stats().calls
    made = embedder(dimensions=4)
    text = "鮨" * (made.max_text_bytes // 3)
    assert len(await made.embed([text] * made.max_texts)) == made.max_texts
    assert gemini.stats().calls == calls + 1


async def test_two_sources_use_two_keys_at_the_same_time(gemini: FakeGemini, embedder: Maker) -> None:
    valid, invalid = embedder(), embedder(key="another-key")
    results = await asyncio.gather(valid.embed(["a"]), invalid.embed(["b"]), valid.embed(["c"]), return_exceptions=True)
    assert [type(result) for result in results] == [list, ProviderMisconfigured, list]
    assert {hash_of(KEY), hash_of("another-key")} <= set(gemini.stats().key_hashes)


@pytest.mark.parametrize(
    ("kind", "quota", "pause_s", "sentence"),
    [
        (FaultKind.THROTTLED, Quota.MINUTE, 3.0, "quota EmbedContentRequestsPerMinutePerProjectPerModel-FreeTier"),
        (
            FaultKind.THROTTLED_TOKENS,
            Quota.MINUTE,
            3.0,
            "quota EmbedContentInputTokensPerMinutePerProjectPerModel-FreeTier",
        ),
        (FaultKind.THROTTLED_PLAIN, Quota.MINUTE, None, "it asks for a pause"),
        (FaultKind.DAY_QUOTA, Quota.DAY, None, "the quota of the day is used up until midnight Pacific time"),
        (FaultKind.SPEND_QUOTA, Quota.SPEND, None, "has reached its spending cap, correct its billing"),
    ],
)
async def test_quotas_of_the_minute_of_the_day_and_of_money_are_told_apart(
    gemini: FakeGemini, embedder: Maker, kind: FaultKind, quota: Quota, pause_s: float | None, sentence: str
) -> None:
    gemini.fault(kind, seconds=3)
    error = await failure(embedder(), "Zum Löwen")
    assert isinstance(error, ProviderThrottled)
    assert (error.quota, error.retry_after_s) == (quota, pause_s)
    assert sentence in error.message


async def test_a_rejected_text_fails_its_whole_batch_and_the_error_does_not_say_which_it_was(
    gemini: FakeGemini,
    embedder: Maker,
) -> None:
    made = embedder()
    assert isinstance(await failure(made, "Zum Löwen", "a POISONed text", "Am Markt"), InputRejected)
    assert len(await made.embed(["Zum Löwen", "Am Markt"])) == 2


async def test_keys_servers_and_clouds_that_the_environment_names_to_the_sdk_are_ignored(
    embedder: Maker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "another-key")
    monkeypatch.setenv("GEMINI_API_KEY", "another-key")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another-project")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    assert len(await embedder().embed(["Zum Löwen"])) == 1
    assert capfd.readouterr().err == ""
