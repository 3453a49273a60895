"""What every provider that calls a server keeps to, with its real SDK: order, limits, reactions, and no secrets in messages.

The server answers as the Gemini API, OpenAI, TEI, infinity, vLLM and Ollama do, and fails on demand.
"""

import asyncio
import json
import logging
import math
import tracemalloc
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from embedding_worker.errors import (
    AnswerUnusable,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    Quota,
)
from embedding_worker.providers.bounded_answer import most_bytes_for
from embedding_worker.providers.embedder import CountedVectors
from hack.control_plane.certificates import Authority
from hack.provider_server.faults import FaultKind
from hack.provider_server.openai_answers import Dialect
from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import hash_of
from hack.provider_server.vectors import fake_vector
from tests.support.provider_services import (
    KEY,
    ONE_OF_EACH_PROVIDER,
    RIGHT_ANSWERS,
    SERVICES,
    WITHOUT_AN_ANSWER,
    Service,
    failure,
    faults_of_each,
    installed,
)

SAME_WITHIN = 1e-6
"""Floats of 32 bits."""
MOST_MEMORY = 16_000_000
"""Of an answer of 64 MB."""
TEXTS = ["Zum Löwen", "鮨処 まつ葉", "عيادة الواحة", "🍣", "a plumber", "Zum Löwen"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path_factory.mktemp("providers"), api_key=KEY) as started:
        yield started


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate: with those of the system, each client takes a tenth of a second."""
    return Authority(tmp_path_factory.mktemp("authority")).certificate


@pytest.fixture
def gemini(server: FakeGemini, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGemini]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    yield server
    server.lift()


@pytest.fixture(params=installed(SERVICES))
def service(request: pytest.FixtureRequest) -> Service:
    chosen: Service = request.param
    return chosen


@pytest.fixture(params=installed(ONE_OF_EACH_PROVIDER))
def provider(request: pytest.FixtureRequest) -> Service:
    """With one of the servers that it may call: the others differ in their errors only."""
    chosen: Service = request.param
    return chosen


def at_unit_length(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [value / length for value in vector]


def service_named(name: str) -> Service:
    return next(service for service in SERVICES if service.name == name)


def test_each_fault_is_tried_with_each_service() -> None:
    for service in SERVICES:
        assert set(FaultKind) == {*service.reactions, *WITHOUT_AN_ANSWER, *RIGHT_ANSWERS}


@pytest.mark.parametrize("kind", [None, *RIGHT_ANSWERS])
async def test_each_text_gets_its_own_vector_in_order_at_unit_length(
    gemini: FakeGemini, service: Service, kind: FaultKind | None
) -> None:
    if kind is not None:
        gemini.fault(kind)
    vectors = await service.embedder(service.url(gemini)).embed(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert list(vector) == pytest.approx(at_unit_length(fake_vector(text, service.dimensions)), abs=SAME_WITHIN)


async def test_the_tokens_that_a_server_counts_come_with_the_vectors(gemini: FakeGemini) -> None:
    service = service_named("openai")
    vectors = await service.embedder(service.url(gemini)).embed(["a plumber", "a dentist"])
    assert isinstance(vectors, CountedVectors)
    assert vectors.tokens == 6


@pytest.mark.parametrize(
    ("name", "most"), [("gemini", 100), ("google-genai", 100), ("openai", 256), ("infinity", 256), ("vllm", 256)]
)
async def test_as_many_texts_as_a_provider_may_send_are_one_request(gemini: FakeGemini, name: str, most: int) -> None:
    service = service_named(name)
    made = service.embedder(service.url(gemini))
    calls = gemini.stats().calls
    assert made.max_texts == most
    assert len(await made.embed([f"business {n}" for n in range(most)])) == most
    assert gemini.stats().calls == calls + 1


@pytest.mark.parametrize(
    ("name", "texts", "code"),
    [
        ("tei", ["a plumber"] * 33, "413 Validation"),
        ("openai", ["word " * 4_800] * 51, "400 max_tokens_per_request"),
    ],
    ids=["33 texts", "more than 300,000 tokens"],
)
async def test_a_batch_that_is_too_large_is_refused_as_a_whole_and_a_smaller_one_is_not(
    gemini: FakeGemini, name: str, texts: list[str], code: str
) -> None:
    service = service_named(name)
    made = service.embedder(service.url(gemini))
    error = await failure(made, *texts)
    assert (type(error), error.code) == (InputRejected, code)
    assert len(await made.embed(texts[: len(texts) - 2])) == len(texts) - 2


@pytest.mark.parametrize("texts", [2_048, 2_049])
def test_the_server_that_answers_as_openai_takes_2048_texts(gemini: FakeGemini, texts: int) -> None:
    body = json.dumps({"model": "text-embedding-3-small", "input": ["one"] * texts, "dimensions": 1})
    connection = HTTPConnection(urlsplit(gemini.url).netloc, timeout=10)
    connection.request("POST", "/v1/embeddings", body, {"Authorization": f"Bearer {KEY}"})
    assert connection.getresponse().status == (200 if texts == 2_048 else 400)
    connection.close()


@pytest.mark.parametrize(("service", "kind"), faults_of_each(SERVICES))
async def test_each_fault_asks_for_its_reaction_by_one_request(
    gemini: FakeGemini, service: Service, kind: FaultKind
) -> None:
    made = service.embedder(service.url(gemini))
    gemini.fault(kind, only_matching="Löwe", location=f"{gemini.url}/elsewhere")
    calls = gemini.stats().calls
    error = await failure(made, "a neighbour", "Zum Löwen")
    assert (type(error), error.code) == service.reactions[kind]
    assert error.of_the_model == (isinstance(error, (InputRejected, AnswerUnusable)) or kind == FaultKind.UNKNOWN_MODEL)
    assert error.reached
    assert gemini.stats().calls == calls + 1
    assert len(await service.embedder(service.url(gemini)).embed(["a neighbour"])) == 1


async def test_an_answer_is_read_no_further_than_the_vectors_of_the_call_can_be_long(
    gemini: FakeGemini, provider: Service
) -> None:
    made = provider.embedder(provider.url(gemini))
    await made.embed(["Zum Löwen"])
    gemini.fault(FaultKind.BOMB)
    tracemalloc.start()
    try:
        error = await failure(made, "Zum Löwen")
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert error.message.startswith(f"an answer of more than {most_bytes_for(1, provider.dimensions):,} bytes came")


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
    gemini: FakeGemini, provider: Service, kind: FaultKind, error: type[ProviderError]
) -> None:
    gemini.fault(kind, as_page=True)
    raised = await failure(provider.embedder(provider.url(gemini)), "Zum Löwen")
    expected = provider.reactions[kind][1].partition(" ")[0]
    assert (type(raised), raised.code) == (error, expected)


@pytest.mark.parametrize(
    ("kind", "quota", "pause_s"),
    [
        (FaultKind.THROTTLED, Quota.MINUTE, 3.0),
        (FaultKind.THROTTLED_TOKENS, Quota.MINUTE, 3.0),
        (FaultKind.DAY_QUOTA, Quota.MINUTE, 3.0),  # OpenAI's quota of the day fills continuously
        (FaultKind.THROTTLED_PLAIN, Quota.MINUTE, None),
        (FaultKind.SPEND_QUOTA, Quota.SPEND, None),
    ],
)
async def test_openai_names_the_pause_and_says_when_there_is_no_money(
    gemini: FakeGemini, kind: FaultKind, quota: Quota, pause_s: float | None
) -> None:
    service = service_named("openai")
    gemini.fault(kind, seconds=3)
    error = await failure(service.embedder(service.url(gemini)), "Zum Löwen")
    assert isinstance(error, ProviderThrottled)
    assert (error.quota, error.retry_after_s) == (quota, pause_s)


async def test_no_redirect_is_followed_to_a_host_that_would_get_the_key_and_the_texts(
    gemini: FakeGemini, provider: Service, tmp_path: Path
) -> None:
    with FakeGemini(tmp_path, api_key=KEY) as other:
        gemini.fault(FaultKind.REDIRECT, location=f"{other.url}/v1/embeddings")
        error = await failure(provider.embedder(provider.url(gemini)), "Zum Löwen")
        assert (other.stats().calls, other.stats().key_hashes) == (0, [])
    assert isinstance(error, ProviderMisconfigured)
    assert error.reason == "EndpointRedirects"
    assert "set spec.model.endpoint" in error.message


async def test_the_key_is_sent_as_it_was_mounted(gemini: FakeGemini, service: Service) -> None:
    key = f"another-key-for-{service.name}"
    error = await failure(service.embedder(service.url(gemini), key=key), "Zum Löwen")
    assert isinstance(error, ProviderMisconfigured)
    assert error.reason == "ApiKeyInvalid"
    assert "the key 'key' of Secret 'contract'" in error.message
    assert hash_of(key) in gemini.stats().key_hashes


async def test_a_server_without_a_key_gets_none_not_even_that_of_the_environment(
    gemini: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-for-somebody-else")
    keys = len(gemini.stats().key_hashes)
    await service_named("tei").embedder(gemini.openai_url(Dialect.TEI), key=None).embed(["Zum Löwen"])
    assert len(gemini.stats().key_hashes) == keys
    error = await failure(service_named("openai").embedder(gemini.openai_url(), key=None), "Zum Löwen")
    assert isinstance(error, ProviderMisconfigured)
    assert "set spec.model.apiKeySecretRef to one that is valid" in error.message


async def test_what_the_environment_says_of_an_account_at_openai_is_sent_to_no_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(variable, "of-somebody-else")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        embedder = service_named("openai").embedder(f"http://127.0.0.1:{port}/v1", key=None)
        assert isinstance(await failure(embedder, "Zum Löwen"), ProviderUnavailable)
    (head,) = heads
    assert b"POST /v1/embeddings" in head
    assert b"of-somebody-else" not in head


async def test_neither_key_nor_text_is_logged_at_any_level(
    gemini: FakeGemini, provider: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "Praxis am Markt, a private matter"
    await provider.embedder(provider.url(gemini)).embed([text])
    for kind in (FaultKind.REFUSED_TEXT, FaultKind.INVALID_KEY, FaultKind.UNAVAILABLE, FaultKind.CLOSE):
        gemini.fault(kind, times=1)
        await failure(provider.embedder(provider.url(gemini)), text)
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    written = capfd.readouterr()
    for private in (KEY, text):
        assert private not in logged + written.out + written.err
