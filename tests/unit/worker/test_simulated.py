"""The provider simulated: allowed by a setting only, with the same vectors each time, and failures as the settings say."""

import math

import pytest

from embedding_operator.resources.embedding_source import ModelSpec
from embedding_operator.settings import settings_from
from embedding_worker.clock import SystemClock
from embedding_worker.errors import InputRejected, ProviderUnavailable, SourceRefused
from embedding_worker.providers.embedder import Embedder
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.providers.simulated import LATENCY_SETTING, PROVIDER, SimulatedEmbedder, share_of
from embedding_worker.source import Model

MODEL = Model("simulated", "any-name", 8)
ALLOWED = {"EMBEDDING_SIMULATED_ALLOWED": "true"}


def embedder(model: Model = MODEL, **settings: str) -> Embedder:
    values = {f"EMBEDDING_SIMULATED_{name}": value for name, value in settings.items()}
    return PROVIDER.make(model, PROVIDER.usable_values(ALLOWED | values))


def refused(values: dict[str, str], *, model: Model = MODEL) -> SourceRefused:
    with pytest.raises(SourceRefused) as raised:
        PROVIDER.make(model, PROVIDER.usable_values(values))
    return raised.value


@pytest.mark.parametrize("values", [{}, {"EMBEDDING_SIMULATED_ALLOWED": "false"}])
def test_without_the_setting_that_allows_it_a_source_is_refused_by_that_setting(values: dict[str, str]) -> None:
    refusal = refused(values)
    assert refusal.reason == "ProviderNotAllowed"
    assert "set EMBEDDING_SIMULATED_ALLOWED to true" in refusal.message


@pytest.mark.parametrize("dimensions", [1, 3, 1536, 16_000])
async def test_vectors_have_the_dimensions_that_are_asked_for_and_unit_length(dimensions: int) -> None:
    (vector,) = await embedder(Model("simulated", "any-name", dimensions)).embed(["Zum Löwen"])
    assert len(vector) == dimensions
    assert math.hypot(*vector) == pytest.approx(1)


async def test_a_text_has_the_same_vector_each_time_and_in_every_process() -> None:
    alone, batch = await embedder().embed(["b"]), await embedder().embed(["a", "b"])
    assert alone[0] == batch[1]
    assert alone[0][:2] == pytest.approx([-0.454532, 0.395346], abs=1e-6)


@pytest.mark.parametrize(
    ("model", "text"),
    [(MODEL, "other"), (Model("simulated", "other-name", 8), "text"), (Model("simulated", "any-name", 9), "text")],
)
async def test_another_text_model_or_number_of_dimensions_gives_another_vector(model: Model, text: str) -> None:
    (vector,), (other,) = await embedder().embed(["text"]), await embedder(model).embed([text])
    assert vector[:8] != pytest.approx(other[:8])


async def outcomes(made: Embedder, calls: int) -> list[bool]:
    succeeded = []
    for _ in range(calls):
        try:
            await made.embed(["the same text"])
        except ProviderUnavailable:
            succeeded.append(False)
        else:
            succeeded.append(True)
    return succeeded


async def test_the_share_of_calls_that_is_set_fails_as_in_an_outage_and_the_same_ones_each_time() -> None:
    first, second = await outcomes(embedder(FAILURE_RATE="0.2"), 500), await outcomes(embedder(FAILURE_RATE="0.2"), 500)
    assert first == second
    assert 60 < first.count(False) < 140


@pytest.mark.parametrize(("rate", "succeeds"), [("0", True), ("1", False)])
async def test_none_or_all_calls_fail(rate: str, succeeds: bool) -> None:
    assert set(await outcomes(embedder(FAILURE_RATE=rate), 50)) == {succeeds}


def test_the_share_of_a_text_is_below_one() -> None:
    assert all(0 <= share_of(str(number)) < 1 for number in range(1000))


async def test_a_text_that_contains_the_refused_part_is_refused_with_its_batch() -> None:
    made = embedder(REFUSED_TEXT="POISON")
    with pytest.raises(InputRejected) as raised:
        await made.embed(["well", "a POISONed text"])
    assert "POISONed" not in str(raised.value)
    assert len(await made.embed(["well"])) == 1


async def test_a_call_takes_the_latency_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("embedding_worker.providers.simulated.asyncio.sleep", sleep)
    await embedder(LATENCY_MS="200").embed(["text"])
    assert slept == [0.2]


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("EMBEDDING_SIMULATED_ALLOWED", "yes", "set it to true or false"),
        (LATENCY_SETTING, "fast", "set a number from 0 to 60000"),
        (LATENCY_SETTING, "-1", "set a number from 0 to 60000"),
        (LATENCY_SETTING, "nan", "set a number from 0 to 60000"),
        ("EMBEDDING_SIMULATED_FAILURE_RATE", "1.1", "set a number from 0 to 1"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_with_its_value(variable: str, value: str, remedy: str) -> None:
    refusal = refused(ALLOWED | {variable: value})
    assert refusal.reason == "SettingInvalid"
    assert refusal.message == f"{variable} is {value!r}: {remedy}"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Model("simulated", "any-name", 0), "WrongDimensions"),
        (Model("simulated", "any-name", 16_001), "WrongDimensions"),
        (Model("simulated", "any-name", 8, "RETRIEVAL_DOCUMENT"), "TaskTypeUnknown"),
    ],
)
def test_dimensions_that_no_column_has_and_task_types_are_refused(model: Model, reason: str) -> None:
    assert refused(ALLOWED, model=model).reason == reason


async def test_a_source_embeds_through_the_registry_with_the_settings_of_the_environment() -> None:
    environ = {"DATABASE_URL": "postgresql://u@h/d", **ALLOWED, "EMBEDDING_SIMULATED_LATENCY_MS": "1"}
    registry = ProviderRegistry(settings_from(environ).credentials(), clock=SystemClock(), observer=NoObserver())
    made = registry.embedder(MODEL, source="businesses")
    assert [len(vector) for vector in await made.embed(["one", "two"])] == [8, 8]


def test_its_vectors_are_never_taken_for_those_of_a_real_model_of_the_same_name() -> None:
    spec = {"provider": "simulated", "name": "gemini-embedding-001", "dimensions": 768}
    assert ModelSpec.model_validate(spec).model().fingerprint == "gemini-embedding-001@768@simulated"


def test_as_many_texts_are_taken_as_by_a_real_provider() -> None:
    assert SimulatedEmbedder(MODEL).max_texts == 100
