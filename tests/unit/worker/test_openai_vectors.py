"""How the vectors are read from the answer of a server with OpenAI's API, and what is no usable answer."""

import base64
import json
from array import array
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_worker.errors import AnswerUnusable, ProviderThrottled, SourceRefused
from embedding_worker.providers.http_settings import Access
from embedding_worker.providers.openai import PROVIDER, body_of, tokens_in, vectors_in
from embedding_worker.providers.provider import SOURCE_ENDPOINT
from embedding_worker.source import Model

ACCESS = Access("http://tei.example/v1", "OPENAI_API_KEY", "spec.model.endpoint")
IN_BASE64 = base64.b64encode(array("f", [0.5, -2.0]).tobytes()).decode()
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
ITEMS = st.dictionaries(st.sampled_from(["embedding", "index", "object"]), VALUES | st.lists(VALUES, max_size=3))


def read(content: Any, *, texts: int = 2) -> list[list[float]]:
    encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
    body = body_of(encoded, endpoint=ACCESS.endpoint)
    return [list(vector) for vector in vectors_in(body, texts=texts, access=ACCESS)]


def answer(*vectors: Any, indices: Any = None) -> dict[str, Any]:
    places = range(len(vectors)) if indices is None else indices
    data = [{"embedding": vector, "index": place} for vector, place in zip(vectors, places, strict=True)]
    return {"object": "list", "data": data, "usage": {"prompt_tokens": 7}}


def test_vectors_come_in_base64_or_in_numbers_and_in_the_order_of_their_texts() -> None:
    assert read(answer([1, 0.25], IN_BASE64)) == [[1.0, 0.25], [0.5, -2.0]]
    assert read(answer([1], [2], indices=[1, 0])) == [[2.0], [1.0]]
    assert read({"data": [{"embedding": [1]}, {"embedding": [2]}]}) == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"data": [{"embedding": [0.1, ',
        None,
        [],
        {},
        {"data": None},
        {"data": {}},
        {"data": [None, None]},
        {"data": [[1.0], [2.0]]},
        {"data": [{"index": 0}, {"index": 1}]},
        answer([1.0]),
        answer([1.0], [2.0], [3.0]),
        answer([1.0], None),
        answer([1.0], [None]),
        answer([1.0], ["0.5"]),
        answer([1.0], [[1.0]]),
        answer([1.0], {"0": 1.0}),
        answer([1.0], [10**400]),
        answer([1.0], "no base64"),
        answer([1.0], "AAA="),
        answer([1.0], [2.0], indices=[0, 0]),
        answer([1.0], [2.0], indices=[1, 2]),
        answer([1.0], [2.0], indices=[0, None]),
        answer([1.0], [2.0], indices=[0, [1]]),
        answer([1.0], [2.0], indices=[0, -1]),
    ],
)
def test_anything_else_is_no_usable_answer(content: Any) -> None:
    with pytest.raises(AnswerUnusable):
        read(content)


@given(st.lists(ITEMS, max_size=3))
def test_no_answer_raises_another_error(data: list[dict[str, Any]]) -> None:
    with suppress(AnswerUnusable):
        assert len(read({"data": data}, texts=len(data))) == len(data)


def test_an_error_in_a_good_answer_asks_for_its_own_reaction() -> None:
    with pytest.raises(ProviderThrottled):
        read({"error": {"message": "slow down", "code": 429}})


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": "7"}, {"prompt_tokens": 0}, []])
def test_tokens_that_are_not_counted_are_not_known(usage: Any) -> None:
    assert tokens_in({"usage": usage}) is None
    assert tokens_in([]) is None
    assert tokens_in({"usage": {"prompt_tokens": 7}}) == 7


def test_without_a_key_only_another_server_than_openais_is_called() -> None:
    model = Model("openai", "bge-m3", 1024)
    with pytest.raises(SourceRefused, match="OPENAI_API_KEY is not set: set it, or OPENAI_API_KEY_FILE") as refused:
        PROVIDER.make(model, {})
    assert refused.value.reason == "ProviderKeyMissing"
    assert PROVIDER.make(model, {SOURCE_ENDPOINT: "http://tei/v1"}).max_texts > 1
