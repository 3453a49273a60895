"""What the provider google-genai has in common with gemini, and how it reads an answer."""

import json

import pytest

from embedding_operator.resources.embedding_source import ModelSpec
from embedding_worker.errors import AnswerUnusable, SourceRefused
from embedding_worker.providers.embedder import CountedVectors
from embedding_worker.providers.gemini import PROVIDER as GEMINI
from embedding_worker.providers.google_answers import vectors_in
from embedding_worker.providers.google_genai import PROVIDER, GoogleGenaiEmbedder
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.rows.records import RateLimits
from embedding_worker.source import Model, SourceConfig, TableColumn, in_force
from tests.support.fake_clock import FakeClock

VALUES = {"GEMINI_API_KEY": "k3y-of-Somebody"}


def answer(*vectors: object, **others: object) -> bytes:
    return json.dumps({"embeddings": [{"values": vector} for vector in vectors]} | others).encode()


@pytest.mark.parametrize("endpoint", ["", "https://gateway.example"])
@pytest.mark.parametrize(("before", "after"), [("gemini", "google-genai"), ("google-genai", "gemini")])
def test_a_source_that_changes_from_one_sdk_to_the_other_waits_for_no_approval(
    before: str, after: str, endpoint: str
) -> None:
    spec = {"name": "gemini-embedding-001", "dimensions": 768, "taskType": "CLUSTERING", "endpoint": endpoint}
    at = TableColumn("public", "businesses", "id", "embedding")
    old, new = (
        SourceConfig(at, "name", ModelSpec.model_validate(spec | {"provider": name}).model())
        for name in (before, after)
    )
    assert in_force(new, old.as_record(), approved="") == (new, None)


def test_both_have_the_same_settings_limits_and_tasks_of_search_texts() -> None:
    model = Model("google-genai", "gemini-embedding-001", 768)
    new, old = PROVIDER.make(model, VALUES), GEMINI.make(model, VALUES)
    assert (new.max_texts, new.max_text_bytes) == (old.max_texts, old.max_text_bytes)
    assert PROVIDER.settings == GEMINI.settings
    assert PROVIDER.query_task_type(model) == GEMINI.query_task_type(model) == "RETRIEVAL_QUERY"


async def test_sources_of_both_are_counted_together_in_the_database_also_after_a_rotation_of_the_key() -> None:
    values = VALUES | {"EMBEDDING_GEMINI_TEXTS_PER_MINUTE": "50"}
    registry = ProviderRegistry(Credentials(values), clock=FakeClock(), observer=NoObserver())
    models = [Model(name, "gemini-embedding-001", 768) for name in ("gemini", "google-genai")]
    (before,) = {(found.key, found.limits) for found in map(registry.connection, models)}
    await registry.rotate("GEMINI_API_KEY", "another-key")
    (after,) = {(found.key, found.limits) for found in map(registry.connection, models)}
    assert before[0] != after[0]
    assert before[1] == after[1] == RateLimits(texts=50)


@pytest.mark.parametrize(
    ("name", "dimensions", "task_type", "reason"),
    [
        ("embedding-001", 768, None, "ModelUnknown"),
        ("gemini-embedding-2", 768, None, "ModelUnknown"),
        ("gemini-embedding-001", 3073, None, "WrongDimensions"),
        ("gemini-embedding-001", 768, "DOCUMENT", "TaskTypeUnknown"),
    ],
)
def test_what_the_model_does_not_have_is_refused(
    name: str, dimensions: int, task_type: str | None, reason: str
) -> None:
    with pytest.raises(SourceRefused) as refused:
        PROVIDER.make(Model("google-genai", name, dimensions, task_type), VALUES)
    assert refused.value.reason == reason


@pytest.mark.parametrize(("task_type", "sent"), [(None, "RETRIEVAL_DOCUMENT"), ("CLUSTERING", "CLUSTERING")])
def test_each_text_is_a_request_of_its_own_with_its_task_and_dimensions(task_type: str | None, sent: str) -> None:
    model = Model("google-genai", "gemini-embedding-001", 768, task_type)
    made = GoogleGenaiEmbedder(model, api_key="k", endpoint=None)
    assert made.request_of("Zum Löwen") == {
        "model": "models/gemini-embedding-001",
        "content": {"parts": [{"text": "Zum Löwen"}]},
        "taskType": sent,
        "outputDimensionality": 768,
    }


def test_a_key_is_not_shown_by_the_embedder() -> None:
    embedder = PROVIDER.make(Model("google-genai", "gemini-embedding-001", 768), VALUES)
    assert "k3y-of-Somebody" not in f"{embedder} {embedder!r} {vars(embedder)['_model']}"


def test_vectors_come_in_their_order_at_unit_length() -> None:
    assert vectors_in(answer([3, 4.0], [0, 2]), provider="google-genai", texts=2, dimensions=2) == [
        [0.6, 0.8],
        [0.0, 1.0],
    ]


def test_the_tokens_that_the_api_reports_are_passed_on() -> None:
    counted = vectors_in(
        answer([1.0], usageMetadata={"promptTokenCount": 7}), provider="google-genai", texts=1, dimensions=1
    )
    assert isinstance(counted, CountedVectors)
    assert counted.tokens == 7


@pytest.mark.parametrize("usage", [None, {}, [], {"promptTokenCount": None}, {"promptTokenCount": "7"}])
def test_without_a_count_of_tokens_none_is_reported(usage: object) -> None:
    assert not isinstance(
        vectors_in(answer([1.0], usageMetadata=usage), provider="google-genai", texts=1, dimensions=1), CountedVectors
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b"{}",
        b'{"embeddings": null}',
        b'{"embeddings": {"values": [1]}}',
        b'{"embeddings": [null]}',
        b'{"embeddings": [{"values": null}]}',
        b'{"embeddings": [{"values": ["1"]}]}',
        b'{"embeddings": [{"values": [null]}]}',
        b'{"embeddings": [{"values": [true]}]}',
        b'{"embeddings": [{"values": [NaN]}]}',
        b'{"embeddings": [{"values": [0]}]}',
        b'{"embeddings": [{"values": [1, 1]}]}',
        b'{"embeddings": []}',
        b'{"embeddings": [{"values": [1]}, {"values": [1]}]}',
        b'{"error": {"code": 503, "status": "UNAVAILABLE"}}',
    ],
)
def test_an_answer_of_another_form_is_unusable(content: bytes) -> None:
    with pytest.raises(AnswerUnusable):
        vectors_in(content, provider="google-genai", texts=1, dimensions=1)
