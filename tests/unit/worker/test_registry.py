"""The provider registry: one client for each model, one throttle for all sources of a credential, rotation, and measuring."""

import asyncio
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint

import pytest

from embedding_worker.errors import ProviderError, ProviderThrottled, ProviderUnavailable, Quota, SourceRefused
from embedding_worker.providers import provider
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.provider import Provider, ProviderSetting, Values, registered_providers
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.source import Model, TooLong
from tests.support.fake_clock import FakeClock, let_time_pass, settle
from tests.support.fake_provider import FakeEmbedder

MODEL = Model("fake", "one", 3)
KEY = "FAKE_KEY"


def usable_key(value: str) -> str:
    if not value.strip():
        raise SourceRefused("ProviderKeyInvalid", f"{KEY} holds no key")
    return value.strip()


@dataclass
class Observer:
    """Records what is observed, and on which clock time it took."""

    started: list[tuple[str, int]] = field(default_factory=list)
    finished: list[tuple[str, str, float]] = field(default_factory=list)

    def call_started(self, *, source: str, texts: int) -> None:
        self.started.append((source, texts))

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        self.finished.append((source, outcome, seconds))


@dataclass
class FakeProvider:
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
        return Provider("fake", self.make, settings=(setting,), endpoint=lambda values: "https://fake.example")

    def embedder(self, key: str) -> FakeEmbedder:
        """The one embedder that was made with this key."""
        (found,) = (embedder for _, made_with, embedder in self.made if made_with == key)
        return found


class System:
    def __init__(self, **values: str) -> None:
        self.clock, self.observer, self.provider = FakeClock(), Observer(), FakeProvider()
        self.registry = ProviderRegistry(
            values or {KEY: "old"},
            clock=self.clock,
            observer=self.observer,
            providers={"fake": self.provider.registration()},
        )

    async def embed(self, *texts: str, source: str = "shops") -> list[Vector]:
        embedder = self.registry.embedder(MODEL, source=source)
        return await let_time_pass(self.clock, embedder.embed(texts))


@pytest.fixture
def system() -> System:
    return System()


def refusal(system: System, model: Model = MODEL) -> SourceRefused:
    with pytest.raises(SourceRefused) as refused:
        system.registry.embedder(model, source="shops")
    return refused.value


def test_a_provider_that_is_not_known_is_refused_with_the_names_of_those_that_are(system: System) -> None:
    refused = refusal(system, Model("nosuch", "one", 3))
    assert (refused.reason, refused.message) == (
        "ProviderUnknown",
        "spec.model.provider is 'nosuch': this version knows 'fake'",
    )


def test_a_provider_whose_key_is_missing_is_refused_with_the_setting_that_holds_it() -> None:
    refused = refusal(System(OTHER="x"))
    assert (refused.reason, refused.message) == (
        "ProviderKeyMissing",
        "spec.model.provider is 'fake' and FAKE_KEY is not set: set it, or FAKE_KEY_FILE, to a key of the fake",
    )


def test_a_key_that_can_not_be_used_is_refused() -> None:
    assert refusal(System(**{KEY: " "})).reason == "ProviderKeyInvalid"


def test_a_model_that_the_provider_does_not_have_is_refused(system: System) -> None:
    assert refusal(system, replace(MODEL, name="unknown")).reason == "ModelUnknown"


@pytest.mark.parametrize("name", ["gemini", "local"])
def test_without_its_sdk_a_provider_is_refused_with_what_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError(module)

    registry = ProviderRegistry({}, clock=FakeClock(), observer=Observer())
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(SourceRefused, match=rf"install embedding-operator\[{name}\]") as refused:
        registry.embedder(Model(name, "any", 3), source="shops")
    assert refused.value.reason == "ProviderNotInstalled"


def test_the_providers_that_are_registered_are_found_by_their_entry_points() -> None:
    assert {"gemini", "local"} <= set(registered_providers())


def test_an_entry_point_that_names_no_provider_of_its_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> list[EntryPoint]:
        return [EntryPoint("other", "embedding_worker.providers.local:PROVIDER", group)]

    monkeypatch.setattr(provider, "entry_points", entry_points)
    with pytest.raises(TypeError, match=r"'other' of embedding_operator\.providers names no Provider called 'other'"):
        registered_providers()


async def test_all_sources_of_a_model_share_one_client_whatever_they_do_with_texts_that_are_too_long(
    system: System,
) -> None:
    for source, too_long in (("shops", TooLong.TRUNCATE), ("hotels", TooLong.REFUSE)):
        system.registry.embedder(replace(MODEL, too_long=too_long), source=source)
    system.registry.embedder(replace(MODEL, name="two"), source="shops")
    assert [model.name for model, _, _ in system.provider.made] == ["one", "two"]


async def test_a_pause_that_one_source_was_asked_for_holds_for_another_source_of_the_same_key(system: System) -> None:
    await system.embed("warm")
    asked = ProviderThrottled("429", retry_after_s=7)
    system.provider.embedder("old").failures = [asked]
    with pytest.raises(ProviderThrottled):
        await system.embed("a", source="shops")
    hotels = system.registry.embedder(MODEL, source="hotels")
    assert hotels.throttled_by is asked
    waiting = asyncio.create_task(hotels.embed(["b"]))
    await system.clock.advance(6.9)
    assert system.provider.embedder("old").calls == [["warm"], ["a"]]
    await system.clock.advance(0.2)
    assert len(await waiting) == 1
    assert hotels.throttled_by is None


async def test_a_pause_that_grows_while_a_call_waits_is_kept(system: System) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    throttle = system.registry.connection("fake").throttle
    throttle.pause(ProviderThrottled("429", retry_after_s=5))
    waiting = asyncio.create_task(embedder.embed(["a"]))
    await system.clock.advance(4)
    throttle.pause(ProviderThrottled("429", retry_after_s=10))
    await system.clock.advance(9)
    assert not waiting.done()
    await system.clock.advance(1)
    assert waiting.done()


async def test_only_a_throttled_call_asks_for_a_pause(system: System) -> None:
    await system.embed("warm")
    system.provider.embedder("old").failures = [ProviderUnavailable("away")]
    with pytest.raises(ProviderUnavailable):
        await system.embed("a")
    assert system.registry.embedder(MODEL, source="shops").throttled_by is None


async def test_a_rotated_key_ends_the_pause_of_the_old_one_for_embedders_that_were_handed_out_before(
    system: System,
) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    system.provider.embedder("old").failures = [ProviderThrottled("the day's quota", quota=Quota.DAY)]
    with pytest.raises(ProviderThrottled):
        await embedder.embed(["a"])
    waiting = asyncio.create_task(embedder.embed(["b"]))
    await system.clock.advance(60)
    await system.registry.rotate(KEY, "new\n")
    await system.clock.advance(1)
    assert waiting.done()
    assert (system.provider.embedder("old").calls, system.provider.embedder("new").calls) == ([["a"]], [["b"]])


async def test_what_the_old_key_is_answered_late_pauses_no_call_with_the_new_one(system: System) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    old = system.provider.embedder("old")
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
    assert embedder.throttled_by is None


@pytest.mark.parametrize(("setting", "value"), [(KEY, " "), ("NO_SETTING", "x")])
async def test_a_value_that_can_not_be_used_is_refused_and_the_old_one_stays(
    system: System, setting: str, value: str
) -> None:
    await system.embed("a")
    with pytest.raises(SourceRefused):
        await system.registry.rotate(setting, value)
    await system.embed("b")
    assert system.provider.embedder("old").calls == [["a"], ["b"]]


async def test_a_key_that_was_missing_is_used_once_it_is_rotated_in() -> None:
    system = System(OTHER="x")
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
    system: System, error: ProviderError | None, outcome: str
) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")
    system.provider.embedder("old").failures = [error] if error else []
    await asyncio.gather(embedder.embed(["a", "b"]), return_exceptions=True)
    assert system.observer.started == [("shops", 2)]
    assert system.observer.finished == [("shops", outcome, 0.0)]


async def test_a_cancelled_call_is_observed_and_the_time_that_it_waited_for_the_throttle_is_not(system: System) -> None:
    embedder = system.registry.embedder(MODEL, source="shops")

    async def hang(texts: Sequence[str]) -> list[Vector]:
        await system.clock.sleep(600)
        return []

    system.provider.embedder("old").embed = hang  # type: ignore[method-assign]
    system.registry.connection("fake").throttle.pause(ProviderThrottled("429", retry_after_s=30))
    calling = asyncio.create_task(embedder.embed(["a"]))
    await system.clock.advance(30)
    assert system.observer.started == [("shops", 1)]
    await system.clock.advance(5)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    assert system.observer.finished == [("shops", "Cancelled", 5.0)]
