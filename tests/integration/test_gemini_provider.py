"""The gemini provider with the real SDK, against a server that answers as the API does, and fails on demand."""

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Iterator

import pytest

from embedding_worker.clock import SystemClock
from embedding_worker.errors import (
    EmbeddingError,
    InputRejected,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.providers.gemini import THREADS, GeminiEmbedder
from embedding_worker.providers.registry import NoObserver, ProviderRegistry
from embedding_worker.source import Model
from hack.provider_server.faults import FaultKind
from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import hash_of
from hack.provider_server.vectors import fake_vector
from tests.support.deadline import eventually

pytest.importorskip("google.generativeai")

KEY = "k3y-of-Somebody"
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


def embedder(
    gemini: FakeGemini,
    *,
    dimensions: int = 768,
    timeout_s: float = LONG_S,
    task_type: str | None = None,
    key: str = KEY,
) -> GeminiEmbedder:
    model = Model("gemini", "gemini-embedding-001", dimensions, task_type)
    return GeminiEmbedder(model, api_key=key, endpoint=gemini.url, timeout_s=timeout_s)


async def failure(embedder: GeminiEmbedder, *texts: str) -> EmbeddingError:
    with pytest.raises(EmbeddingError) as raised:
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
    gemini: FakeGemini, dimensions: int
) -> None:
    texts = [f"business {n}: 鮨, Löwe, نخلة" for n in range(99)] + ["business 0: 鮨, Löwe, نخلة"]
    vectors = await embedder(gemini, dimensions=dimensions).embed(texts)
    assert len(vectors) == 100
    for text, vector in zip(texts, vectors, strict=True):
        assert list(vector) == pytest.approx(at_unit_length(fake_vector(text, dimensions)), abs=SAME_WITHIN)
        assert math.hypot(*vector) == pytest.approx(1, abs=SAME_WITHIN)
        assert {type(value) for value in vector} == {float}


async def test_the_registry_makes_it_from_the_settings_and_rotates_its_key(gemini: FakeGemini) -> None:
    values = {"GEMINI_API_KEY": "another-key", "EMBEDDING_GEMINI_ENDPOINT": gemini.url}
    registry = ProviderRegistry(values, clock=SystemClock(), observer=NoObserver())
    made = registry.embedder(Model("gemini", "models/gemini-embedding-001", 4), source="businesses")
    with pytest.raises(ProviderMisconfigured) as refused:
        await made.embed(["one"])
    assert refused.value.reason == "ApiKeyInvalid"
    await registry.rotate("GEMINI_API_KEY", KEY)
    assert len((await made.embed(["one"]))[0]) == 4


async def test_the_longest_texts_that_it_takes_go_through_in_one_call(gemini: FakeGemini) -> None:
    calls = gemini.stats().calls
    made = embedder(gemini, dimensions=4)
    text = "鮨" * (made.max_text_bytes // 3)
    assert len(await made.embed([text] * made.max_texts)) == made.max_texts
    assert gemini.stats().calls == calls + 1


async def test_two_sources_use_two_keys_at_the_same_time(gemini: FakeGemini) -> None:
    valid, invalid = embedder(gemini), embedder(gemini, key="another-key")
    results = await asyncio.gather(valid.embed(["a"]), invalid.embed(["b"]), valid.embed(["c"]), return_exceptions=True)
    assert [type(result) for result in results] == [list, ProviderMisconfigured, list]
    assert {hash_of(KEY), hash_of("another-key")} <= set(gemini.stats().key_hashes)


CODES = {
    FaultKind.REFUSED_TEXT: (InputRejected, "400 INVALID_ARGUMENT"),
    FaultKind.INVALID_KEY: (ProviderMisconfigured, "400 INVALID_ARGUMENT"),
    FaultKind.FAILED_PRECONDITION: (ProviderMisconfigured, "400 FAILED_PRECONDITION"),
    FaultKind.UNAUTHENTICATED: (ProviderMisconfigured, "401 UNAUTHENTICATED"),
    FaultKind.FORBIDDEN: (ProviderMisconfigured, "403 PERMISSION_DENIED"),
    FaultKind.UNKNOWN_MODEL: (ProviderMisconfigured, "404 NOT_FOUND"),
    FaultKind.THROTTLED: (ProviderThrottled, "429 RESOURCE_EXHAUSTED"),
    FaultKind.DAY_QUOTA: (ProviderThrottled, "429 RESOURCE_EXHAUSTED"),
    FaultKind.INTERNAL: (ProviderUnavailable, "500 INTERNAL"),
    FaultKind.UNAVAILABLE: (ProviderUnavailable, "503 UNAVAILABLE"),
    FaultKind.CLOSE: (ProviderUnavailable, ""),
    FaultKind.NOT_JSON: (ProviderUnavailable, ""),
    FaultKind.TOO_FEW: (ProviderUnavailable, ""),
    FaultKind.WRONG_SIZE: (ProviderUnavailable, ""),
    FaultKind.NAN: (ProviderUnavailable, ""),
}


def test_each_fault_is_tried_by_one_of_these_tests() -> None:
    assert set(FaultKind) == set(CODES) | {FaultKind.HANG, FaultKind.SLOW}


@pytest.mark.parametrize("kind", CODES)
async def test_each_fault_asks_for_its_reaction_at_once_and_by_one_call(gemini: FakeGemini, kind: FaultKind) -> None:
    made = embedder(gemini, timeout_s=LONG_S)
    await made.embed(["warm"])
    gemini.fault(kind, only_matching="Löwe")
    calls = gemini.stats().calls
    began = time.monotonic()
    error = await failure(made, "Zum Löwen", "a neighbour")
    assert time.monotonic() - began < LONG_S / 5
    assert (type(error), getattr(error, "code", None)) == CODES[kind]
    # google-auth asks twice more after a 401, for a token that might have run out; nothing switches that off.
    assert gemini.stats().calls - calls == (3 if kind is FaultKind.UNAUTHENTICATED else 1)
    assert len(await made.embed(["another"])) == 1


async def test_a_rejected_text_fails_its_whole_batch_and_the_error_does_not_say_which_it_was(
    gemini: FakeGemini,
) -> None:
    made = embedder(gemini)
    assert isinstance(await failure(made, "Zum Löwen", "a POISONed text", "Am Markt"), InputRejected)
    assert len(await made.embed(["Zum Löwen", "Am Markt"])) == 2


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.SLOW])
async def test_a_call_without_an_answer_is_an_outage_after_its_timeout(gemini: FakeGemini, kind: FaultKind) -> None:
    made = embedder(gemini, timeout_s=TIMEOUT_S)
    await made.embed(["warm"])
    gemini.fault(kind, seconds=LONG_S)
    began = time.monotonic()
    error = await failure(made, "Zum Löwen")
    assert type(error) is ProviderUnavailable
    assert TIMEOUT_S <= time.monotonic() - began < TIMEOUT_S * 4
    await eventually(lambda: not gemini.stats().in_flight, within_s=5, because="the client has gone")


async def test_a_server_that_is_away_is_an_outage_and_is_found_again(gemini: FakeGemini) -> None:
    made = embedder(gemini)
    await made.embed(["warm"])
    gemini.stop()
    error = await failure(made, "Zum Löwen")
    assert type(error) is ProviderUnavailable
    assert gemini.url in str(error)
    gemini.start()
    assert len(await made.embed(["one"])) == 1


async def test_a_task_that_is_cancelled_is_free_at_once_and_so_is_the_next(gemini: FakeGemini) -> None:
    made = embedder(gemini, timeout_s=LONG_S)
    await made.embed(["warm"])
    gemini.fault(FaultKind.HANG, only_matching="hangs")
    hanging = asyncio.create_task(made.embed(["hangs"]))
    await eventually(lambda: gemini.stats().in_flight == 1, within_s=5, because="the call is on its way")
    async with asyncio.timeout(LONG_S / 5):
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert len(await made.embed(["another"])) == 1


async def test_with_all_threads_hanging_a_call_fails_in_time_and_is_never_made(gemini: FakeGemini) -> None:
    slow, quick = embedder(gemini, timeout_s=LONG_S), TIMEOUT_S
    await slow.embed(["warm"])
    gemini.fault(FaultKind.HANG, only_matching="hangs")
    hanging = [asyncio.create_task(slow.embed([f"hangs {n}"])) for n in range(THREADS)]
    await eventually(lambda: gemini.stats().in_flight == THREADS, within_s=5, because="all are on their way")
    slow._timeout_s = quick
    assert type(await failure(slow, "waits in vain")) is ProviderUnavailable
    assert hash_of("waits in vain") not in gemini.stats().texts_by_hash
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_neither_key_nor_text_is_logged_at_any_level(
    gemini: FakeGemini, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "Praxis am Markt, a private matter"
    made = embedder(gemini, key=KEY)
    await made.embed([text])
    for kind in (FaultKind.REFUSED_TEXT, FaultKind.INVALID_KEY, FaultKind.UNAUTHENTICATED, FaultKind.CLOSE):
        gemini.fault(kind, times=3 if kind is FaultKind.UNAUTHENTICATED else 1)
        await failure(made, text)
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    written = capfd.readouterr()
    assert "batchEmbedContents" in logged  # it is looked at, then
    for private in (KEY, text):
        assert private not in logged + written.out + written.err
