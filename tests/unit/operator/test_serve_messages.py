"""The requests of `embedding-operator serve`: what each wrong one is answered with, and that no answer quotes a text."""

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.serve.messages import EmbeddingsRequest, RequestRefused, embeddings, parse_request
from embedding_operator.serve.packed_vectors import pack
from embedding_operator.serve.refusals import paused, retry_after
from embedding_worker.providers.problem import Problem

GOOD = {"model": "businesses", "input": "sushi"}
WRONG: dict[str, tuple[Any, str | None, str]] = {
    "no JSON": (b"{", None, "the body is no JSON"),
    "a list": ([], None, "no JSON object"),
    "deep nesting": (b"[" * 200_000, None, "the body is no JSON"),
    "no model": ({"input": "x"}, "model", "model is missing"),
    "a model that is no text": ({**GOOD, "model": 3}, "model", "model is missing"),
    "no input": ({"model": "businesses"}, "input", "neither a text nor a list of texts"),
    "an empty list": ({**GOOD, "input": []}, "input", "neither a text nor a list of texts"),
    "tokens": ({**GOOD, "input": [1, 2, 3]}, "input", "tokens are not accepted"),
    "lists of tokens": ({**GOOD, "input": [[1], [2]]}, "input", "tokens are not accepted"),
    "too many texts": ({**GOOD, "input": ["x"] * 33}, "input", "input has 33 texts: send at most 32"),
    "an empty text": ({**GOOD, "input": ""}, "input", "input[0] is blank"),
    "a blank text": ({**GOOD, "input": ["x", " \t\n"]}, "input", "input[1] is blank"),
    "half of a character": (b'{"model": "businesses", "input": "\\ud83d"}', "input", "half of a surrogate pair"),
    "another encoding": ({**GOOD, "encoding_format": "hex"}, "encoding_format", "neither float nor base64"),
    "dimensions as a text": ({**GOOD, "dimensions": "512"}, "dimensions", "no whole number"),
    "dimensions as a truth value": ({**GOOD, "dimensions": True}, "dimensions", "no whole number"),
}


def parsed(body: Any) -> EmbeddingsRequest:
    return parse_request(body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(("body", "param", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_with_the_field_and_a_sentence(body: Any, param: str | None, words: str) -> None:
    with pytest.raises(RequestRefused, match=words.replace("[", r"\[")) as raised:
        parsed(body)
    error = raised.value.as_json()["error"]
    assert (raised.value.status, error["type"], error["param"]) == (400, "invalid_request_error", param)


def test_one_text_and_a_list_are_accepted_and_unknown_fields_are_ignored() -> None:
    assert parsed({**GOOD, "user": "me", "more": {}}) == EmbeddingsRequest("businesses", ("sushi",))
    asked = parsed({**GOOD, "input": ["a", "b"], "encoding_format": "base64", "dimensions": 512})
    assert asked == EmbeddingsRequest("businesses", ("a", "b"), "base64", 512)
    assert parsed({**GOOD, "encoding_format": None, "dimensions": None}) == parsed(GOOD)


def test_a_request_does_not_show_its_texts_where_it_is_printed() -> None:
    assert "sushi" not in repr(parsed(GOOD))


def answered(asked: EmbeddingsRequest, vector: list[float]) -> Any:
    return json.loads(b"".join(embeddings(asked, [pack(vector)], tokens=1)))["data"][0]["embedding"]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_both_encodings_hold_the_same_numbers(vector: list[float]) -> None:
    as_floats = answered(EmbeddingsRequest("any", ("x",)), vector)
    coded = answered(EmbeddingsRequest("any", ("x",), "base64"), vector)
    assert as_floats == vector
    assert list(struct.unpack(f"<{len(vector)}f", base64.b64decode(coded))) == vector


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (None, 503),
        (Problem("ProviderUnavailable", "away"), 503),
        (Problem("KeyRefused", "the key is wrong"), 503),
        (Problem("ProviderThrottled", "wait"), 429),
        (Problem("QuotaExhausted", "tomorrow"), 429),
    ],
)
def test_a_quota_is_answered_as_one_and_any_other_problem_as_an_outage(problem: Problem | None, status: int) -> None:
    assert paused("shops", problem, 2.0).status == status


@pytest.mark.parametrize(("wait_s", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.1, "2"), (60.0, "60")])
def test_retry_after_is_in_whole_seconds_and_never_too_early(wait_s: float, header: str) -> None:
    assert retry_after(wait_s) == header
