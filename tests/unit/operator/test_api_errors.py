"""Which error an answer of the API server becomes, by what the caller has to do."""

import json

import pytest

from embedding_operator.api_errors import (
    AlreadyExists,
    ApiServerError,
    ApiServerUnavailable,
    Gone,
    Invalid,
    RequestRefused,
    Unauthorized,
    reaction_to,
)

WORDS = "the server's own words"
STATUS_OBJECT = json.dumps({"kind": "Status", "message": WORDS}).encode()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RequestRefused),
        (401, Unauthorized),
        (403, RequestRefused),
        (404, Gone),
        (409, AlreadyExists),
        (413, RequestRefused),
        (422, Invalid),
        (429, ApiServerUnavailable),
        (500, ApiServerUnavailable),
        (503, ApiServerUnavailable),
        (504, ApiServerUnavailable),
    ],
)
def test_each_http_status_has_its_error_with_the_servers_message(status: int, error: type[ApiServerError]) -> None:
    reaction = reaction_to(status, STATUS_OBJECT, None)
    assert type(reaction) is error
    assert str(reaction) == WORDS


@pytest.mark.parametrize(
    ("retry_after", "expected_s"), [("7", 7.0), (None, 1.0), ("", 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_server_says_how_long_to_wait(status: int, retry_after: str | None, expected_s: float) -> None:
    reaction = reaction_to(status, STATUS_OBJECT, retry_after)
    assert isinstance(reaction, ApiServerUnavailable)
    assert reaction.retry_after_s == expected_s


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"\xff\xfe", b"[]", b'"words"', b"null", b"{}"])
def test_an_answer_that_is_no_status_object_is_named_by_its_number(body: bytes) -> None:
    assert str(reaction_to(502, body, None)) == "HTTP 502"
