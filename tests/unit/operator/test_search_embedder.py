"""Search texts on their way to the model: what is sent, what is shared, what is refused, and what a failure means."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from embedding_operator.lifecycle import model_in_force
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_source
from embedding_operator.serve import call_slots, model_calls
from embedding_operator.serve.call_slots import MOST_CALLS_OF_ONE
from embedding_operator.serve.messages import MOST_TEXTS, EmbeddingsRequest, RequestRefused
from embedding_operator.serve.metrics import ServeMetrics
from embedding_operator.serve.packed_vectors import VectorCache, key_of, unpack
from embedding_operator.serve.rate import Allowance
from embedding_operator.serve.search_embedder import SearchEmbedder
from embedding_operator.serve.served_models import ServedModels
from embedding_operator.serve.upkeep import Upkeep
from embedding_worker.errors import (
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.providers import source_embedder
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.provider import Provider
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.source import Model
from tests.support.deadline import eventually
from tests.support.fake_clock import FakeClock, let_time_pass, settle
from tests.support.fake_provider import MODEL, FakeEmbedder
from tests.support.kept_rows import fake_vector
from tests.support.manifests import a_source

AWAY = ProviderUnavailable("the server is away")


def source(name: str = "shops", in_force: Model | None = MODEL, **spec: Any) -> EmbeddingSource:
    """A source whose status says that this model is in force."""
    status = {} if in_force is None else {"model": model_in_force.recorded(in_force)}
    return parse_source(a_source(name, **spec) | {"status": status})


def fails(module: str) -> None:
    raise ModuleNotFoundError(name="grpc")


class Watch:
    """What the sources are."""

    def __init__(self, *sources: EmbeddingSource) -> None:
        self.sources = {each.name: each for each in sources}


class System:
    def __init__(
        self, *sources: EmbeddingSource, client: FakeEmbedder | None = None, per_minute: int = 600, cached: int = 100
    ) -> None:
        self.clock, self.client = FakeClock(), client or FakeEmbedder()
        self.another = FakeEmbedder()
        providers = {
            "fake": Provider("fake", lambda model, values: self.client, query_task_type=lambda model: "QUERY"),
            "another": Provider("another", lambda model, values: self.another),
            "broken": Provider("broken", lambda model, values: FakeEmbedder(), sdk_module="json", import_sdk=fails),
        }
        metrics = ServeMetrics()
        registry = ProviderRegistry(Credentials(), clock=self.clock, observer=metrics, providers=providers)
        self.models = ServedModels(registry, providers)
        self.watch = Watch(*(sources or (source(),)))
        self.upkeep = Upkeep(self.watch, self.models, clock=self.clock)  # type: ignore[arg-type]
        self.embedder = SearchEmbedder(
            self.models,
            namespace="yellow-book",
            texts_per_minute=per_minute,
            cached_vectors=cached,
            clock=self.clock,
            metrics=metrics,
        )

    async def embed(self, *texts: str, name: str = "shops", dimensions: int | None = None) -> list[list[float]]:
        asked = EmbeddingsRequest(name, texts, dimensions=dimensions)
        return [unpack(vector) for vector in (await self.embedder.embed(asked, self.watch.sources)).vectors]

    async def refusal(self, *texts: str, name: str = "shops", dimensions: int | None = None) -> RequestRefused:
        with pytest.raises(RequestRefused) as raised:
            await self.embed(*texts, name=name, dimensions=dimensions)
        return raised.value


async def test_each_text_gets_its_vector_in_order_and_equal_ones_are_sent_once() -> None:
    system = System()
    vectors = await system.embed("b", "a", "b")
    assert vectors == [pytest.approx(fake_vector(text), abs=1e-6) for text in "bab"]
    assert system.client.calls == [["b", "a"]]


async def test_a_text_is_sent_once_for_all_requests_and_the_oldest_vector_is_forgotten() -> None:
    system = System(cached=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await system.embed(text)
    assert system.client.calls == [["a"], ["b"], ["c"], ["b"]]


async def test_requests_at_the_same_time_share_a_call_that_goes_on_if_the_first_client_goes_away() -> None:
    system = System(cached=0)
    system.client.held = asyncio.Event()
    first, second = asyncio.create_task(system.embed("a", "b")), asyncio.create_task(system.embed("b"))
    await settle()
    first.cancel()
    system.client.held.set()
    assert await second == [pytest.approx(fake_vector("b"), abs=1e-6)]
    assert system.client.calls == [["a", "b"]]


def poison(texts: Sequence[str]) -> ProviderError | None:
    return InputRejected("TextRefused", "the model refuses a text") if "poison" in texts else None


async def test_a_refused_text_is_named_and_the_others_get_their_vectors_also_those_of_other_requests() -> None:
    system = System(client=FakeEmbedder(fails=poison))
    system.client.held = asyncio.Event()
    bad = asyncio.create_task(system.refusal("a", "b", "poison", "c"))
    good = asyncio.create_task(system.embed("b"))
    await settle()
    system.client.held.set()
    refused = await bad
    assert (refused.status, refused.param) == (400, "input[2]")
    assert "input[2]" in refused.message
    assert len(await good) == 1
    calls, canaries = len(system.client.calls), system.client.canaries
    await system.embed("a", "b", "c")
    assert (calls, len(system.client.calls), canaries) == (5, 5, 1)


async def test_calls_get_no_larger_than_the_server_accepts() -> None:
    def too_many(texts: Sequence[str]) -> ProviderError | None:
        return InputRejected("InputRejected", "answered 413") if len(texts) > 4 else None

    system = System(client=FakeEmbedder(fails=too_many))
    texts = [str(number) for number in range(16)]
    assert await system.embed(*texts) == [pytest.approx(fake_vector(text), abs=1e-6) for text in texts]
    assert system.client.sizes == [16, 8, 8, 4, 4, 4, 4]
    await system.embed(*(f"more {text}" for text in texts))
    assert system.client.sizes[7:] == [4, 4, 4, 4]


async def test_a_request_is_sent_in_calls_of_the_size_that_the_model_accepts() -> None:
    system = System(client=FakeEmbedder(max_texts=2))
    assert len(await system.embed(*"abcde")) == 5
    assert sorted(system.client.calls) == [["a", "b"], ["c", "d"], ["e"]]


async def test_the_prefix_of_search_texts_is_sent_and_a_long_text_is_cut_with_it() -> None:
    model = Model("fake", "one", 3, query_prefix="query: ")
    system = System(source(in_force=model))
    await system.embed("a", "é" * 600)
    ((short, long),) = system.client.calls
    assert short == "query: a"
    assert long.startswith("query: é")
    assert len(long.encode()) == system.client.max_text_bytes - 1  # no half of a character


async def test_a_long_text_is_refused_where_those_of_rows_are() -> None:
    system = System(source(model={"tooLong": "Refuse"}))
    refused = await system.refusal("x" * 1_001)
    assert (refused.status, refused.param) == (400, "input")
    assert "input[0] has 1001 bytes with its prefix, and the model accepts 1000" in refused.message
    assert system.client.calls == []


@pytest.mark.parametrize(
    ("name", "dimensions", "status", "words"),
    [
        (
            "nothing",
            None,
            404,
            "there is no EmbeddingSource 'nothing' in namespace 'yellow-book'; it has: new, shops, strange",
        ),
        ("shops", 4, 400, "dimensions is 4, and shops has 3"),
        ("x y", None, 404, "there is no EmbeddingSource of this name in namespace 'yellow-book'"),
        (
            "new",
            None,
            503,
            "EmbeddingSource new cannot be used now (NotSetUp): see the conditions of EmbeddingSource new",
        ),
        ("strange", None, 503, "EmbeddingSource strange cannot be used now (ProviderUnknown)"),
    ],
)
async def test_a_source_that_cannot_be_searched_is_answered_with_the_reason(
    name: str, dimensions: int | None, status: int, words: str
) -> None:
    system = System(source(), source("new", None), source("strange", Model("other", "one", 3)))
    refused = await system.refusal("a", name=name, dimensions=dimensions)
    assert refused.status == status
    assert words in refused.message
    assert (refused.retry_after_s is not None) == (status == 503)


async def test_a_suspended_source_is_searched() -> None:
    assert len(await System(source(suspend=True)).embed("a")) == 1


async def test_a_changed_model_in_force_is_used_from_then_on() -> None:
    system = System()
    await system.embed("a")
    system.watch.sources["shops"] = source(in_force=Model("fake", "two", 3))
    await system.embed("a")
    assert system.models.of(system.watch.sources["shops"]).model.name == "two"
    assert system.client.calls == [["a"], ["a"]]


async def test_more_texts_than_the_limit_are_refused_until_time_has_passed_and_cached_ones_are_not() -> None:
    system = System(per_minute=60)
    await system.embed(*(str(number) for number in range(MOST_TEXTS)))
    refused = await system.refusal("more")
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.retry_after_s == pytest.approx(1.0)
    await system.embed("3")
    await system.clock.advance(1.0)
    await system.embed("more")


async def test_an_outage_opens_the_circuit_and_the_upkeep_finds_its_end() -> None:
    system = System(client=FakeEmbedder(fails=lambda texts: AWAY))
    assert (await system.refusal("a")).status == 503
    await settle()
    calls = len(system.client.calls)
    refused = await system.refusal("b")
    assert (refused.status, refused.code, len(system.client.calls)) == (503, "ProviderUnavailable", calls)
    assert refused.retry_after_s is not None
    assert "no call is made to the model of EmbeddingSource shops now (ProviderUnavailable)" in refused.message
    upkeep = asyncio.create_task(system.upkeep.run())
    system.client.fails = lambda texts: None
    await settle()
    await system.clock.advance(3.0)
    await settle()
    upkeep.cancel()
    assert len(await let_time_pass(system.clock, system.embed("b"))) == 1


async def test_a_server_that_hangs_stops_no_other_source_and_its_circuit_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_calls, "ANSWERED_WITHIN_S", 10.0)
    monkeypatch.setattr(source_embedder, "ANSWERED_WITHIN_S", 0.1)
    system = System(source(), source("hotels", Model("another", "one", 3)))
    system.client.held = system.client.canary_held = asyncio.Event()
    hanging = [asyncio.create_task(system.refusal(str(number))) for number in range(MOST_CALLS_OF_ONE + 5)]
    await settle()
    assert len(await system.embed("a", name="hotels")) == 1
    assert len(system.client.calls) == MOST_CALLS_OF_ONE
    monkeypatch.setattr(model_calls, "ANSWERED_WITHIN_S", 1.0)  # for the calls from now on
    assert {refused.status for refused in await asyncio.gather(*hanging)} <= {429, 503}

    async def is_answered_at_once() -> bool:
        calls = len(system.client.calls)
        return "no call is made to" in (await system.refusal("b")).message and len(system.client.calls) == calls

    await eventually(is_answered_at_once, within_s=60, because="the canary opens the circuit")


async def test_a_call_that_gets_no_slot_in_time_is_refused_and_the_time_of_a_call_begins_with_its_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_slots, "SLOT_WITHIN_S", 0.1)
    system = System()
    system.client.held = asyncio.Event()
    first = [asyncio.create_task(system.embed(str(number))) for number in range(MOST_CALLS_OF_ONE)]
    await settle()
    refused = await system.refusal("waits")
    assert (refused.status, refused.code, system.client.canaries) == (429, "rate_limit_exceeded", 0)
    system.client.held.set()
    assert len(await asyncio.gather(*first)) == MOST_CALLS_OF_ONE


async def test_a_key_that_is_refused_is_no_fault_of_the_request() -> None:
    wrong = ProviderMisconfigured("the key is wrong", reason="KeyRefused")
    system = System(client=FakeEmbedder(fails=lambda texts: wrong))
    refused = await system.refusal("a")
    assert (refused.status, refused.code, system.client.canaries) == (503, "KeyRefused", 1)


@pytest.mark.parametrize(
    "error",
    [
        ProviderUnavailable("no answer, at http://tei.internal:8080"),
        ProviderMisconfigured("not accepted, set spec.model.apiKeySecretRef of Secret tei-key", reason="ApiKeyInvalid"),
        ProviderThrottled("a pause, at http://tei.internal:8080"),
        InputRejected("InputRejected", "refused, at http://tei.internal:8080"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_clients_get_the_reason_and_the_sentence_with_names_and_addresses_is_logged(error: ProviderError) -> None:
    system = System(client=FakeEmbedder(failures=[error, error], fails=lambda texts: None))
    with capture_logs() as logs:
        refused = [await system.refusal("a"), await system.refusal("b")]
    for each in refused:
        assert "internal" not in each.message
        assert "tei-key" not in each.message
    assert any(entry.get("message") == error.message for entry in logs)


async def test_why_a_source_cannot_be_used_is_logged_once_and_not_answered() -> None:
    system = System(source("strange", Model("other", "one", 3)))
    with capture_logs() as logs:
        refused = [await system.refusal("a", name="strange") for _ in range(2)]
    assert "spec.model.provider" not in refused[0].message
    (entry,) = (entry for entry in logs if entry["event"] == "source cannot be used")
    assert "spec.model.provider is 'other'" in entry["message"]


async def test_a_source_whose_sdk_can_not_be_imported_is_answered_with_the_reason() -> None:
    system = System(source("broken", Model("broken", "one", 3)))
    with capture_logs() as logs:
        upkeep = asyncio.create_task(system.upkeep.run())
        await eventually(lambda: not system.upkeep.unloaded, within_s=60, because="the import was tried")
        refused = await system.refusal("a", name="broken")
    upkeep.cancel()
    assert (refused.status, refused.code) == (503, "ProviderNotInstalled")
    (entry,) = (entry for entry in logs if entry["event"] == "model not prepared")
    assert "install embedding-operator[broken]" in entry["message"]


async def test_a_pause_that_the_provider_asks_for_is_passed_on() -> None:
    busy = ProviderThrottled("too many requests", retry_after_s=7.0)
    system = System(client=FakeEmbedder(failures=[busy]))
    for _ in range(2):  # by the provider itself, and then without a call
        refused = await system.refusal("a")
        assert (refused.status, refused.code) == (429, "ProviderThrottled")
        assert refused.retry_after_s == pytest.approx(7.0)
    assert len(system.client.calls) == 1


async def test_a_model_in_this_process_is_loaded_before_the_process_is_ready() -> None:
    system = System()
    assert system.upkeep.unloaded == ["shops"]
    upkeep = asyncio.create_task(system.upkeep.run())
    await settle()
    assert (system.upkeep.unloaded, system.client.canaries) == ([], 1)
    upkeep.cancel()
    assert CANARY not in [text for call in system.client.calls for text in call]


def test_an_allowance_grows_to_ten_seconds_of_the_limit_and_no_further() -> None:
    allowance = Allowance(600, now=0.0, least_burst=32)
    assert allowance.acquire(100, 0.0) == 0.0
    assert allowance.acquire(1, 0.0) == pytest.approx(0.1)
    assert allowance.acquire(100, 1_000.0) == 0.0
    assert allowance.acquire(5, 1_000.1) == pytest.approx(0.4)


def test_a_cache_knows_texts_by_model_and_hash_only() -> None:
    cache = VectorCache(1)
    cache.put(key_of(MODEL, "sushi"), b"1234")
    assert cache.get(key_of(MODEL, "sushi")) == b"1234"
    assert cache.get(key_of(Model("fake", "two", 3), "sushi")) is None
    assert b"sushi" not in key_of(MODEL, "sushi")[1]
