"""The provider registry: one client for each model, one throttle for all sources of a credential, rotation, and measuring."""

import asyncio
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from embedding_worker.errors import (
    CallsPaused,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    Quota,
    SourceRefused,
)
from embedding_worker.providers import provider
from embedding_worker.providers.accounts import ApiKey
from embedding_worker.providers.circuit import CircuitState
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.provider import registered_providers
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.rows.records import RateLimits
from embedding_worker.source import Model, TooLong
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_provider import MODEL
from tests.support.keyed_provider import KEY, KeyedSystem

WRONG_KEY = ProviderMisconfigured("the key is wrong", reason="KeyRefused")
UNKNOWN_MODEL = ProviderMisconfigured("no such model", of_the_model=True)


@pytest.fixture
def system() -> KeyedSystem:
    return KeyedSystem()


def refusal(system: KeyedSystem, model: Model = MODEL) -> SourceRefused:
    with pytest.raises(SourceRefused) as refused:
        system.registry.embedder(model, source="shops")
    return refused.value


def test_a_provider_that_is_not_known_is_refused_with_the_names_of_those_that_are(system: KeyedSystem) -> None:
    refused = refusal(system, Model("nosuch", "one", 3))
    assert (refused.reason, refused.message) == (
        "ProviderUnknown",
        "spec.model.provider is 'nosuch': this version knows 'fake'",
    )


def test_a_provider_whose_key_is_missing_is_refused_with_the_setting_that_holds_it() -> None:
    refused = refusal(KeyedSystem(OTHER="x"))
    assert (refused.reason, refused.message) == (
        "ProviderKeyMissing",
        "spec.model.provider is 'fake' and FAKE_KEY is not set: set it, or FAKE_KEY_FILE, to a key of the fake",
    )


def test_a_key_that_can_not_be_used_is_refused() -> None:
    assert refusal(KeyedSystem(**{KEY: " "})).reason == "ProviderKeyInvalid"


def test_a_model_that_the_provider_does_not_have_is_refused(system: KeyedSystem) -> None:
    assert refusal(system, replace(MODEL, name="unknown")).reason == "ModelUnknown"


@pytest.mark.parametrize("name", ["gemini", "google-genai", "local", "openai"])
def test_without_its_sdk_a_provider_is_refused_with_what_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError(module)

    registry = ProviderRegistry(Credentials({}), clock=FakeClock(), observer=NoObserver())
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(SourceRefused, match=rf"install embedding-operator\[{name}\]") as refused:
        registry.embedder(Model(name, "any", 3), source="shops")
    assert refused.value.reason == "ProviderNotInstalled"


def test_the_providers_that_are_registered_are_found_by_their_entry_points() -> None:
    assert {"gemini", "google-genai", "local", "openai", "simulated"} <= set(registered_providers())


def test_an_entry_point_that_names_no_provider_of_its_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> list[EntryPoint]:
        return [EntryPoint("other", "embedding_worker.providers.local:PROVIDER", group)]

    monkeypatch.setattr(provider, "entry_points", entry_points)
    with pytest.raises(TypeError, match=r"'other' of embedding_operator\.providers names no Provider called 'other'"):
        registered_providers()


async def test_all_sources_of_a_model_share_one_client_whatever_they_do_with_texts_that_are_too_long(
    system: KeyedSystem,
) -> None:
    for source, too_long in (("shops", TooLong.TRUNCATE), ("hotels", TooLong.REFUSE)):
        system.registry.embedder(replace(MODEL, too_long=too_long), source=source)
    system.registry.embedder(replace(MODEL, name="two"), source="shops")
    assert [model.name for model, _, _ in system.provider.made] == ["one", "two"]


async def test_a_pause_that_one_source_was_asked_for_holds_for_another_source_of_the_same_key(
    system: KeyedSystem,
) -> None:
    await system.embed("warm")
    system.provider.client().failures = [ProviderThrottled("429", retry_after_s=7)]
    with pytest.raises(ProviderThrottled):
        await system.embed("a", source="shops")
    hotels = system.registry.embedder(MODEL, source="hotels")
    assert hotels.problem is not None
    assert hotels.problem.reason == "ProviderThrottled"
    await system.clock.advance(6.9)
    with pytest.raises(CallsPaused, match="no call is made before 2026-03-01T12:00:07Z"):
        await hotels.embed(["b"])
    assert (system.provider.client().calls, hotels.may_call) == ([["warm"], ["a"]], False)
    await system.clock.advance(0.2)
    assert hotels.may_call
    assert len(await hotels.embed(["b"])) == 1
    assert hotels.problem is None


async def test_only_a_throttled_call_asks_for_a_pause(system: KeyedSystem) -> None:
    await system.embed("warm")
    system.provider.client().failures = [ProviderUnavailable("away")]
    with pytest.raises(ProviderUnavailable):
        await system.embed("a")
    embedder = system.registry.embedder(MODEL, source="shops")
    assert (embedder.problem, embedder.may_call, embedder.throttled_times) == (None, True, 0)


async def test_a_rotated_key_ends_the_pause_of_the_old_one_for_embedders_that_were_handed_out_before(
    system: KeyedSystem,
) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    system.provider.client().failures = [ProviderThrottled("the day's quota", quota=Quota.DAY)]
    with pytest.raises(ProviderThrottled):
        await embedder.embed(["a"])
    with pytest.raises(CallsPaused):
        await embedder.embed(["b"])
    await system.registry.rotate(KEY, "new\n")
    await embedder.embed(["b"])
    assert (system.provider.client().calls, system.provider.client("new").calls) == ([["a"]], [["b"]])
    assert embedder.problem is None


async def test_a_rotated_key_closes_the_circuits_of_the_old_one(system: KeyedSystem) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    two = system.registry.embedder(replace(MODEL, name="two"), source="hotels")
    for asked, model, error in ((embedder, "one", UNKNOWN_MODEL), (two, "two", WRONG_KEY)):
        system.provider.client(model=model).canary_failures = [error]
        with pytest.raises(ProviderMisconfigured):
            await asked.send_canary()
    assert system.observer.circuits[3:] == [("fake one@3", CircuitState.OPEN), ("fake", CircuitState.OPEN)]
    assert not embedder.may_call
    await system.registry.rotate(KEY, "new")
    assert (embedder.may_call, two.may_call, embedder.problem) == (True, True, None)
    assert dict(system.observer.circuits) == dict.fromkeys(("fake", "fake one@3", "fake two@3"), CircuitState.CLOSED)


async def test_what_the_old_key_is_answered_late_pauses_no_call_with_the_new_one(system: KeyedSystem) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    old = system.provider.client()
    answered = asyncio.Event()

    async def answer_late(texts: Sequence[str]) -> list[Vector]:
        await answered.wait()
        raise ProviderThrottled("429", retry_after_s=600)

    old.embed = answer_late  # type: ignore[method-assign]
    in_flight = asyncio.create_task(embedder.embed(["a"]))
    await settle()
    await system.registry.rotate(KEY, "new")
    answered.set()
    with pytest.raises(ProviderThrottled):
        await in_flight
    assert (embedder.problem, embedder.may_call) == (None, True)


@pytest.mark.parametrize(("setting", "value"), [(KEY, " "), ("NO_SETTING", "x")])
async def test_a_value_that_can_not_be_used_is_refused_and_the_old_one_stays(
    system: KeyedSystem, setting: str, value: str
) -> None:
    await system.embed("a")
    with pytest.raises(SourceRefused):
        await system.registry.rotate(setting, value)
    await system.embed("b")
    assert system.provider.client().calls == [["a"], ["b"]]


async def test_a_key_that_was_missing_is_used_once_it_is_rotated_in() -> None:
    system = KeyedSystem(OTHER="x")
    assert refusal(system).reason == "ProviderKeyMissing"
    await system.registry.rotate(KEY, "new")
    assert len(await system.embed("a")) == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "Succeeded"),
        (ProviderUnavailable("away"), "ProviderUnavailable"),
        (ProviderThrottled("429"), "ProviderThrottled"),
    ],
)
async def test_each_call_is_observed_with_its_source_its_texts_and_its_outcome(
    system: KeyedSystem, error: ProviderError | None, outcome: str
) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    system.provider.client().failures = [error] if error else []
    await asyncio.gather(embedder.embed(["a", "b"]), return_exceptions=True)
    assert system.observer.started == [("shops", 2)]
    assert system.observer.finished == [("shops", outcome, 0.0)]


async def test_a_cancelled_call_is_observed_with_the_time_that_it_took(system: KeyedSystem) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")

    async def hang(texts: Sequence[str]) -> list[Vector]:
        await system.clock.sleep(600)
        return []

    system.provider.client().embed = hang  # type: ignore[method-assign]
    calling = asyncio.create_task(embedder.embed(["a"]))
    await system.clock.advance(5)
    assert system.observer.started == [("shops", 1)]
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    assert system.observer.finished == [("shops", "Cancelled", 5.0)]


async def test_a_call_that_is_refused_during_a_pause_is_not_observed(system: KeyedSystem) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    system.registry.connection(MODEL).throttle.pause(ProviderThrottled("429", retry_after_s=30), began=0.0)
    with pytest.raises(CallsPaused):
        await embedder.embed(["a"])
    assert (system.observer.started, system.observer.finished) == ([], [])


async def test_a_provider_and_each_of_its_models_has_a_circuit_which_is_closed_at_first(system: KeyedSystem) -> None:
    system.registry.embedder(MODEL, source="shops")
    system.registry.embedder(replace(MODEL, name="two"), source="hotels")
    system.registry.embedder(MODEL, source="hotels")
    assert system.observer.circuits == [(name, CircuitState.CLOSED) for name in ("fake", "fake one@3", "fake two@3")]


# Accounts of their own.

OWN = "https://own.example"


def two_accounts() -> KeyedSystem:
    """With a key that may be sent to an endpoint of its own."""
    system = KeyedSystem()
    keys = {"team-b/key": ApiKey("team-b/key", (OWN,), None, RateLimits(texts=60))}
    system.registry = ProviderRegistry(
        Credentials({KEY: "old"}, keys),
        clock=system.clock,
        observer=system.observer,
        providers={"fake": system.provider.registration()},
    )
    return system


ACCOUNT_OF_ITS_OWN = replace(MODEL, endpoint=OWN, api_key_ref="team-b/key")


async def test_a_key_that_appears_later_is_used_from_then_on() -> None:
    system = two_accounts()
    refused = refusal(system, ACCOUNT_OF_ITS_OWN)
    assert refused.reason == "ProviderKeyMissing"
    await system.registry.rotate_key("team-b/key", "theirs\n")
    await system.registry.embedder(ACCOUNT_OF_ITS_OWN, source="shops").embed(["a"])
    assert system.provider.client("theirs").calls == [["a"]]


async def test_a_rotated_key_is_used_by_the_same_embedder_and_another_account_keeps_its_own() -> None:
    system = two_accounts()
    await system.registry.rotate_key("team-b/key", "theirs")
    own = system.registry.embedder(ACCOUNT_OF_ITS_OWN, source="shops")
    others = system.registry.connection(MODEL)
    await system.registry.rotate_key("team-b/key", "newer")
    await own.embed(["a"])
    assert system.provider.client("newer").calls == [["a"]]
    assert system.registry.connection(MODEL) is others


async def test_a_key_that_can_not_be_used_leaves_the_old_one_in_force() -> None:
    system = two_accounts()
    await system.registry.rotate_key("team-b/key", "theirs")
    with pytest.raises(SourceRefused, match="team-b/key holds no key"):
        await system.registry.rotate_key("team-b/key", "two words")
    await system.registry.embedder(ACCOUNT_OF_ITS_OWN, source="shops").embed(["a"])
    assert system.provider.client("theirs").calls == [["a"]]


async def test_a_pause_of_one_account_holds_for_no_other() -> None:
    system = two_accounts()
    await system.registry.rotate_key("team-b/key", "theirs")
    embedder = system.registry.embedder(ACCOUNT_OF_ITS_OWN, source="shops")
    system.provider.client("theirs").failures = [ProviderThrottled("429", retry_after_s=7)]
    with pytest.raises(ProviderThrottled):
        await embedder.embed(["a"])
    assert not embedder.may_call
    assert system.registry.embedder(MODEL, source="hotels").may_call
    assert [name for name, _ in system.observer.throttles] == ["fake at own.example with team-b/key"]


async def test_the_limits_of_a_key_hold_for_its_account_alone() -> None:
    system = two_accounts()
    await system.registry.rotate_key("team-b/key", "theirs")
    (key, limits), (other_key, other_limits) = (
        system.registry.embedder(model, source="shops").limits for model in (ACCOUNT_OF_ITS_OWN, MODEL)
    )
    assert (limits, other_limits) == (RateLimits(texts=60), RateLimits())
    assert key != other_key


def test_a_required_key_is_not_replaced_by_that_of_the_settings_for_a_server_of_the_source() -> None:
    refused = refusal(two_accounts(), replace(MODEL, endpoint=OWN))
    assert (refused.reason, refused.message) == (
        "ProviderKeyMissing",
        "spec.model.provider is 'fake' and spec.model.endpoint is 'https://own.example', to which FAKE_KEY is not sent: "
        "name a key of this server by spec.model.apiKeySecretRef",
    )
