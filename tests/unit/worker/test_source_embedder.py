"""The calls of a source: which circuit a failed canary opens, what an outage means for others, and what is recorded."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from embedding_worker.errors import (
    AnswerUnusable,
    CallsPaused,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.providers.attribution import Verdict
from embedding_worker.providers.canary import ANSWERED_WITHIN_S
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.pulse import BEAT_EVERY_S
from embedding_worker.providers.source_embedder import SourceEmbedder
from tests.support.fake_clock import settle
from tests.support.fake_provider import MODEL, FakeEmbedder
from tests.support.keyed_provider import KEY, KeyedSystem

AWAY = ProviderUnavailable("the server is away")
OF_THE_ENDPOINT = [AWAY, ProviderMisconfigured("the key is wrong", reason="KeyRefused")]
OF_THE_MODEL = [
    ProviderMisconfigured("no such model", of_the_model=True),
    InputRejected("Refused", "400"),
    AnswerUnusable("a vector came that is zero throughout"),
]


class Sources:
    """Two sources with model one, and one with model two, all with the same key."""

    def __init__(self) -> None:
        self.system = KeyedSystem()
        self.clock = self.system.clock
        self.shops = self.embedder("one", "shops")
        self.hotels = self.embedder("one", "hotels")
        self.other_model = self.embedder("two", "others")
        self.client = self.system.provider.client()

    def embedder(self, model: str, source: str) -> SourceEmbedder:
        return self.system.registry.embedder(replace(MODEL, name=model), source=source)

    async def open_circuit(self, error: ProviderError = AWAY) -> None:
        self.client.canary_failures = [error]
        with pytest.raises(type(error)):
            await self.shops.send_canary()

    def may_call(self) -> list[bool]:
        return [embedder.may_call for embedder in (self.shops, self.hotels, self.other_model)]

    async def probe(self, embedder: SourceEmbedder) -> bool:
        """What the gate does."""
        assert embedder.begin_probe()
        return await embedder.probe()


@pytest.fixture
def sources() -> Sources:
    return Sources()


class Held:
    """Holds each call of this client until it is let go, one by one."""

    def __init__(self, client: FakeEmbedder) -> None:
        self.waiting: list[asyncio.Event] = []
        self._embed = client.embed
        client.embed = self.embed  # type: ignore[method-assign]

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        held = asyncio.Event()
        self.waiting.append(held)
        await held.wait()
        return await self._embed(texts)

    async def let_go(self) -> None:
        """All that wait now."""
        waiting, self.waiting = self.waiting, []
        for held in waiting:
            held.set()
        await settle()


# Circuits.


@pytest.mark.parametrize("error", OF_THE_ENDPOINT, ids=lambda error: str(error))
async def test_an_error_of_the_endpoint_opens_its_circuit_for_all_models(
    sources: Sources, error: ProviderError
) -> None:
    await sources.open_circuit(error)
    assert sources.may_call() == [False, False, False]
    for embedder in (sources.shops, sources.hotels, sources.other_model):
        assert embedder.problem is not None
        assert error.message in embedder.problem.message
        with pytest.raises(CallsPaused, match=error.message):
            await embedder.embed(["a"])
    assert sources.client.calls == []


@pytest.mark.parametrize("error", OF_THE_MODEL, ids=lambda error: str(error))
async def test_an_error_of_the_model_opens_the_circuit_of_that_model_and_others_go_on(
    sources: Sources, error: ProviderError
) -> None:
    await sources.open_circuit(error)
    assert sources.may_call() == [False, False, True]
    assert sources.other_model.problem is None
    assert len(await sources.other_model.embed(["a"])) == 1


async def test_a_failed_call_for_rows_opens_no_circuit(sources: Sources) -> None:
    sources.client.failures = [AWAY] * 50
    for _ in range(50):
        with pytest.raises(ProviderUnavailable):
            await sources.shops.embed(["a"])
    assert (sources.may_call(), sources.shops.problem) == ([True] * 3, None)


async def test_a_throttled_canary_opens_no_circuit_and_pauses_all(sources: Sources) -> None:
    await sources.open_circuit(ProviderThrottled("429", retry_after_s=5))
    assert sources.may_call() == [False] * 3
    await sources.clock.advance(5)
    assert sources.may_call() == [True] * 3


async def test_a_pause_that_was_asked_for_is_observed_and_so_is_its_end(sources: Sources) -> None:
    await sources.open_circuit(ProviderThrottled("429", retry_after_s=5))
    began = sources.clock.now()
    await sources.clock.advance(1)
    sources.shops.retry_now()
    ends = [(until - began).total_seconds() for _, until in sources.system.observer.throttles]
    assert ends == [5, 1]


async def test_a_canary_is_sent_only_while_calls_may_be_made(sources: Sources) -> None:
    await sources.open_circuit()
    with pytest.raises(CallsPaused):
        await sources.hotels.send_canary()
    assert sources.client.canaries == 1


async def test_a_canary_has_five_seconds(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ANSWERED_WITHIN_S == 5
    monkeypatch.setattr("embedding_worker.providers.canary.ANSWERED_WITHIN_S", 0.01)
    held = Held(sources.client)
    with pytest.raises(ProviderUnavailable, match="got no vector within"):
        await sources.shops.send_canary()
    assert (len(held.waiting), sources.may_call()) == (1, [False] * 3)
    assert sources.system.observer.finished[-1][1] == "Cancelled"


async def test_a_canary_without_an_answer_says_too_which_call_had_failed_before(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.client.failures = [ProviderUnavailable("no answer within 30 s", timed_out=True)]
    with pytest.raises(ProviderUnavailable):
        await sources.shops.embed(["one", "two"])
    monkeypatch.setattr("embedding_worker.providers.source_embedder.ANSWERED_WITHIN_S", 0.01)
    held = Held(sources.client)
    with pytest.raises(ProviderUnavailable):
        await sources.shops.send_canary()
    problem = sources.shops.problem
    assert len(held.waiting) == 1
    assert problem is not None
    assert problem.message.endswith(
        "a fixed test text got no vector within 0.01 s, after a call of 2 texts failed: no answer within 30 s"
    )


# Probes.


async def test_a_probe_that_is_answered_closes_the_circuit_for_all(sources: Sources) -> None:
    await sources.open_circuit()
    assert not sources.hotels.begin_probe()
    await sources.clock.advance(1)
    assert await sources.probe(sources.hotels)
    assert sources.may_call() == [True] * 3


async def test_a_probe_that_fails_leaves_it_open_with_the_newer_error(sources: Sources) -> None:
    await sources.open_circuit()
    await sources.clock.advance(1)
    sources.client.canary_failures = [ProviderUnavailable("still away")]
    assert await sources.probe(sources.hotels)
    assert sources.shops.problem is not None
    assert "still away" in sources.shops.problem.message
    assert sources.may_call() == [False] * 3


async def test_a_probe_says_whether_it_reached_the_provider(sources: Sources) -> None:
    await sources.open_circuit()
    await sources.clock.advance(1)
    sources.client.canary_failures = [ProviderUnavailable("connection refused", reached=False)]
    assert not await sources.probe(sources.shops)


@pytest.mark.parametrize("error", [AWAY, OF_THE_MODEL[0]], ids=["of the endpoint", "of the model"])
async def test_a_probe_that_is_answered_by_429_closes_the_circuit_and_the_throttle_pauses(
    sources: Sources, error: ProviderError
) -> None:
    await sources.open_circuit(error)
    await sources.clock.advance(1)
    sources.client.canary_failures = [ProviderThrottled("429", retry_after_s=5)]
    await sources.probe(sources.shops)
    assert sources.may_call() == [False] * 3
    await sources.clock.advance(5)
    assert sources.may_call() == [True] * 3


async def test_a_probe_that_fails_because_of_the_model_closes_the_circuit_of_the_endpoint(sources: Sources) -> None:
    await sources.open_circuit()
    await sources.clock.advance(1)
    sources.client.canary_failures = [OF_THE_MODEL[0]]
    await sources.probe(sources.shops)
    assert sources.may_call() == [False, False, True]


async def test_the_circuit_of_a_model_is_closed_by_a_probe_with_that_model(sources: Sources) -> None:
    await sources.open_circuit(OF_THE_MODEL[0])
    await sources.clock.advance(1)
    assert not sources.other_model.begin_probe()
    await sources.probe(sources.hotels)
    assert sources.may_call() == [True] * 3


async def test_rotation_closes_both_circuits_for_the_same_embedders(sources: Sources) -> None:
    await sources.open_circuit(OF_THE_MODEL[0])
    sources.system.provider.client(model="two").canary_failures = [OF_THE_ENDPOINT[1]]
    with pytest.raises(ProviderMisconfigured):
        await sources.other_model.send_canary()
    assert sources.may_call() == [False] * 3
    await sources.system.registry.rotate(KEY, "new")
    assert sources.may_call() == [True] * 3
    assert len(await sources.shops.embed(["a"])) == 1


# After an outage.


@pytest.mark.parametrize("error", [AWAY, OF_THE_MODEL[0]], ids=["of the endpoint", "of the model"])
async def test_after_an_outage_calls_in_flight_grow_with_each_that_succeeds(
    sources: Sources, error: ProviderError
) -> None:
    await sources.open_circuit(error)
    await sources.clock.advance(1)
    await sources.probe(sources.shops)
    held, in_flight = Held(sources.client), []
    embedders = [sources.shops, sources.hotels] * 50
    calls = [asyncio.create_task(embedder.embed([str(n)])) for n, embedder in enumerate(embedders)]
    await settle()
    while not all(call.done() for call in calls):
        in_flight.append(len(held.waiting))
        await held.let_go()
    assert in_flight == [1, 2, 8, 89]
    assert len(sources.client.calls) == 100


async def test_a_call_that_waits_after_an_outage_is_refused_when_the_circuit_opens_again(sources: Sources) -> None:
    await sources.open_circuit()
    await sources.clock.advance(1)
    await sources.probe(sources.shops)
    sources.client.failures = [AWAY]
    held = Held(sources.client)
    first, second = (asyncio.create_task(embedder.embed(["a"])) for embedder in (sources.shops, sources.hotels))
    await settle()
    assert len(held.waiting) == 1
    sources.system.registry.connection(MODEL).breaker.open(AWAY)
    await held.let_go()
    assert [type(call.exception()) for call in (first, second)] == [ProviderUnavailable, CallsPaused]


async def test_a_call_that_waits_after_an_outage_uses_a_rotated_key(sources: Sources) -> None:
    await sources.open_circuit()
    await sources.clock.advance(1)
    await sources.probe(sources.shops)
    held = Held(sources.client)
    first, second = (asyncio.create_task(embedder.embed(["a"])) for embedder in (sources.shops, sources.hotels))
    await settle()
    await sources.system.registry.rotate(KEY, "new")
    await sources.clock.advance(1)
    assert (first.done(), len(second.result())) == (False, 1)
    assert sources.system.provider.client("new").calls == [["a"]]
    await held.let_go()


# What is recorded.


async def test_calls_of_all_sources_of_a_model_are_evidence(sources: Sources) -> None:
    for _ in range(10):
        await sources.hotels.embed(["a"])
    failure = sources.shops.evidence.next_number()
    await sources.hotels.embed(["a"])
    assert sources.shops.evidence.verdict(failure, sources.clock.monotonic(), refused=False) is Verdict.WELL
    assert sources.other_model.evidence.verdict(0, sources.clock.monotonic(), refused=False) is Verdict.ASK


async def test_calls_that_fail_one_after_the_other_raise_doubt_about_the_provider(sources: Sources) -> None:
    await sources.hotels.embed(["a"])
    sources.client.failures = [AWAY] * 3
    in_doubt = []
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await sources.shops.embed(["a"])
        in_doubt.append(sources.hotels.evidence.is_in_doubt(sources.clock.monotonic()))
    assert in_doubt == [False, False, True]


async def test_a_canary_that_fails_is_evidence_against_the_provider(sources: Sources) -> None:
    await sources.open_circuit(OF_THE_MODEL[1])
    assert sources.shops.evidence.verdict(-1, sources.clock.monotonic(), refused=False) is Verdict.NOT_WELL
    assert not sources.shops.evidence.trusts_refusals(sources.clock.monotonic())


async def test_a_call_that_fails_ends_a_throttle_no_sooner_and_one_that_succeeds_forgets_it(sources: Sources) -> None:
    sources.client.failures = [ProviderThrottled("429", retry_after_s=0), AWAY]
    for error in (ProviderThrottled, ProviderUnavailable):
        with pytest.raises(error):
            await sources.shops.embed(["a"])
    assert sources.hotels.throttled_times == 1
    await sources.hotels.embed(["a"])
    assert (sources.shops.throttled_times, sources.shops.problem) == (0, None)


async def test_a_call_during_which_this_process_was_stopped_shows_nothing(sources: Sources) -> None:
    sources.shops.beat()
    sources.client.failures = [ProviderThrottled("429", retry_after_s=600)] * 2
    held = Held(sources.client)
    call = asyncio.create_task(sources.shops.embed(["a"]))
    canary = asyncio.create_task(sources.hotels.send_canary())
    sources.client.canary_failures = [AWAY]
    await settle()
    await sources.clock.advance(10)
    sources.hotels.beat()
    await held.let_go()
    for task in (call, canary):
        error = task.exception()
        assert isinstance(error, CallsPaused)
        assert error.reached
    assert (sources.may_call(), sources.shops.problem) == ([True] * 3, None)
    assert sources.shops.evidence.verdict(0, sources.clock.monotonic(), refused=False) is Verdict.ASK


async def test_while_this_process_beats_a_call_of_any_length_shows_what_it_shows(sources: Sources) -> None:
    held = Held(sources.client)
    sources.client.failures = [AWAY]
    call = asyncio.create_task(sources.shops.embed(["a"]))
    for _ in range(20):
        sources.shops.beat()
        await sources.clock.advance(BEAT_EVERY_S)
    await held.let_go()
    assert isinstance(call.exception(), ProviderUnavailable)


async def test_a_probe_that_was_answered_counts_as_a_call_that_has_succeeded(sources: Sources) -> None:
    """Otherwise the end of an outage that began before the first call would not be noticed."""
    await sources.open_circuit()
    assert not sources.hotels.evidence.any_succeeded
    await sources.clock.advance(2.0)
    assert await sources.probe(sources.shops)
    assert sources.hotels.evidence.any_succeeded
