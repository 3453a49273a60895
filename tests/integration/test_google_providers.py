"""The providers on Google's two SDKs, each the real one, against a server that answers as the API does, and fails on demand."""

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedding_worker.clock import SystemClock
from embedding_worker.errors import (
    AnswerUnusable,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
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
from tests.support.deadline import eventually

pytest.importorskip("google.generativeai")
pytest.importorskip("google.genai")

KEY = "k3y-of-Somebody"
CLASSES: dict[str, Any] = {"gemini": GeminiEmbedder, "google-genai": GoogleGenaiEmbedder}
TIMEOUT_S = 0.5
LONG_S = 10.0
SAME_WITHIN = 1e-6
"""The SDK's floats have 24 bits."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path_factory.mktemp("fake-gemini"), api_key=KEY) as started:
        yield started


@pytest.fixture
def gemini(server: FakeGemini, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGemini]:
    """The server without a fault. Whatever hangs when the test ends is cut off."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    if server.is_running() and not server.stats().in_flight:
        server.lift()
    else:
        server.stop()
        server.start()


@dataclass(frozen=True)
class Maker:
    """Makes embedders of one provider, for the fake server."""

    provider: str
    endpoint: str

    def __call__(
        self, *, dimensions: int = 768, timeout_s: float = LONG_S, task_type: str | None = None, key: str = KEY
    ) -> Embedder:
        model = Model(self.provider, "gemini-embedding-001", dimensions, task_type)
        made: Embedder = CLASSES[self.provider](model, api_key=key, endpoint=self.endpoint, timeout_s=timeout_s)
        return made


@pytest.fixture(params=CLASSES)
def embedder(request: pytest.FixtureRequest, gemini: FakeGemini) -> Maker:
    return Maker(request.param, gemini.url)


async def failure(embedder: Embedder, *texts: str) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await embedder.embed(texts)
    shown = f"{raised.value!r} {vars(raised.value)} {''.join(traceback.format_exception(raised.value))}"
    for private in (KEY, *texts):
        assert private not in shown
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
    made = registry.embedder(Model("gemini", "models/gemini-embedding-001", 4), source="businesses")
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


CODES: dict[FaultKind, tuple[type[ProviderError], str]] = {
    FaultKind.REFUSED_TEXT: (InputRejected, "400 INVALID_ARGUMENT"),
    FaultKind.INVALID_KEY: (ProviderMisconfigured, "400 INVALID_ARGUMENT"),
    FaultKind.FAILED_PRECONDITION: (ProviderMisconfigured, "400 FAILED_PRECONDITION"),
    FaultKind.UNAUTHENTICATED: (ProviderMisconfigured, "401 UNAUTHENTICATED"),
    FaultKind.FORBIDDEN: (ProviderMisconfigured, "403 PERMISSION_DENIED"),
    FaultKind.UNKNOWN_MODEL: (ProviderMisconfigured, "404 NOT_FOUND"),
    FaultKind.REDIRECT: (ProviderMisconfigured, "307"),
    FaultKind.THROTTLED: (ProviderThrottled, "429 RESOURCE_EXHAUSTED"),
    FaultKind.THROTTLED_TOKENS: (ProviderThrottled, "429 RESOURCE_EXHAUSTED"),
    FaultKind.THROTTLED_PLAIN: (ProviderThrottled, "429 RESOURCE_EXHAUSTED"),
    FaultKind.DAY_QUOTA: (ProviderThrottled, "429 RESOURCE_EXHAUSTED"),
    FaultKind.SPEND_QUOTA: (ProviderThrottled, "429 RESOURCE_EXHAUSTED"),
    FaultKind.INTERNAL: (ProviderUnavailable, "500 INTERNAL"),
    FaultKind.UNAVAILABLE: (ProviderUnavailable, "503 UNAVAILABLE"),
    FaultKind.CLOSE: (ProviderUnavailable, ""),
    FaultKind.NOT_JSON: (AnswerUnusable, ""),
    FaultKind.ERROR_BODY: (AnswerUnusable, ""),
    FaultKind.TOO_FEW: (AnswerUnusable, ""),
    FaultKind.WRONG_SIZE: (AnswerUnusable, ""),
    FaultKind.NAN: (AnswerUnusable, ""),
    FaultKind.ZERO: (AnswerUnusable, ""),
    FaultKind.NULL_VALUES: (AnswerUnusable, ""),
    FaultKind.NULL_VECTOR: (AnswerUnusable, ""),
}
WITHOUT_AN_ANSWER = (FaultKind.HANG, FaultKind.SLOW, FaultKind.TRICKLE, FaultKind.TRICKLE_HEADERS)
OF_THE_MODEL = {kind for kind, (error, _) in CODES.items() if error in (InputRejected, AnswerUnusable)} | {
    FaultKind.UNKNOWN_MODEL
}


@pytest.mark.parametrize("kind", CODES)
async def test_each_fault_asks_for_its_reaction_at_once_and_by_one_request(
    gemini: FakeGemini, embedder: Maker, kind: FaultKind
) -> None:
    made = embedder(timeout_s=LONG_S)
    await made.embed(["warm"])
    gemini.fault(kind, only_matching="Löwe", location=f"{gemini.url}/elsewhere")
    calls = gemini.stats().calls
    began = time.monotonic()
    error = await failure(made, "Zum Löwen", "a neighbour")
    assert time.monotonic() - began < LONG_S / 5
    assert (type(error), error.code) == CODES[kind]
    assert error.of_the_model == (kind in OF_THE_MODEL)
    assert error.reached
    assert gemini.stats().calls - calls == 1  # google-auth would repeat a 401 twice
    assert len(await made.embed(["another"])) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.REFUSED_TEXT, ProviderUnavailable),
        (FaultKind.UNAUTHENTICATED, ProviderMisconfigured),
        (FaultKind.FORBIDDEN, ProviderMisconfigured),
        (FaultKind.UNKNOWN_MODEL, ProviderMisconfigured),
        (FaultKind.THROTTLED, ProviderThrottled),
        (FaultKind.UNAVAILABLE, ProviderUnavailable),
    ],
)
async def test_the_page_of_a_filter_or_a_proxy_goes_by_its_code(
    gemini: FakeGemini, embedder: Maker, kind: FaultKind, error: type[ProviderError]
) -> None:
    gemini.fault(kind, as_page=True)
    raised = await failure(embedder(), "Zum Löwen")
    assert (type(raised), raised.code) == (error, kind.value)


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


async def test_no_redirect_is_followed_to_a_host_that_would_get_the_key(
    gemini: FakeGemini, embedder: Maker, tmp_path: Path
) -> None:
    with FakeGemini(tmp_path, api_key=KEY) as other:
        gemini.fault(FaultKind.REDIRECT, location=f"{other.url}/v1beta/models/gemini-embedding-001:batchEmbedContents")
        error = await failure(embedder(), "Zum Löwen")
        assert (other.stats().calls, other.stats().key_hashes) == (0, [])
    assert isinstance(error, ProviderMisconfigured)
    assert error.reason == "EndpointRedirects"
    assert "307" in error.message
    assert "set EMBEDDING_GEMINI_ENDPOINT" in error.message
    assert other.url not in error.message


async def test_a_rejected_text_fails_its_whole_batch_and_the_error_does_not_say_which_it_was(
    gemini: FakeGemini,
    embedder: Maker,
) -> None:
    made = embedder()
    assert isinstance(await failure(made, "Zum Löwen", "a POISONed text", "Am Markt"), InputRejected)
    assert len(await made.embed(["Zum Löwen", "Am Markt"])) == 2


@pytest.mark.parametrize("kind", WITHOUT_AN_ANSWER)
async def test_a_call_without_an_answer_is_an_outage_after_its_timeout(
    gemini: FakeGemini, embedder: Maker, kind: FaultKind
) -> None:
    made = embedder(timeout_s=TIMEOUT_S)
    await made.embed(["warm"])
    gemini.fault(kind, seconds=LONG_S)
    began = time.monotonic()
    error = await failure(made, "Zum Löwen")
    assert type(error) is ProviderUnavailable
    assert error.reached
    assert TIMEOUT_S <= time.monotonic() - began < TIMEOUT_S * 4
    await eventually(lambda: not gemini.stats().in_flight, within_s=5, because="the client has gone")


async def test_a_server_that_is_away_is_an_outage_and_is_found_again(gemini: FakeGemini, embedder: Maker) -> None:
    made = embedder()
    await made.embed(["warm"])
    gemini.stop()
    error = await failure(made, "Zum Löwen")
    assert type(error) is ProviderUnavailable
    assert gemini.url in str(error)
    gemini.start()
    assert len(await made.embed(["one"])) == 1


async def test_a_task_that_is_cancelled_is_free_at_once_and_so_is_the_next(gemini: FakeGemini, embedder: Maker) -> None:
    made = embedder(timeout_s=LONG_S)
    await made.embed(["warm"])
    gemini.fault(FaultKind.HANG, only_matching="hangs")
    hanging = asyncio.create_task(made.embed(["hangs"]))
    await eventually(lambda: gemini.stats().in_flight == 1, within_s=5, because="the call is on its way")
    async with asyncio.timeout(LONG_S / 5):
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert len(await made.embed(["another"])) == 1


async def test_neither_key_nor_text_is_logged_at_any_level(
    gemini: FakeGemini, embedder: Maker, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger(__name__).debug("it is looked at")
    text = "Praxis am Markt, a private matter"
    made = embedder(key=KEY)
    await made.embed([text])
    for kind in (FaultKind.REFUSED_TEXT, FaultKind.INVALID_KEY, FaultKind.UNAUTHENTICATED, FaultKind.CLOSE):
        gemini.fault(kind, times=1)
        await failure(made, text)
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    written = capfd.readouterr()
    assert "it is looked at" in logged
    for private in (KEY, text):
        assert private not in logged + written.out + written.err
