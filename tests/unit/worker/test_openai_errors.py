"""How each answer of a server with OpenAI's API is translated into an error of this project, without any of its own sentences."""

import traceback
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_worker.errors import (
    AnswerUnusable,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    Quota,
)
from embedding_worker.providers.openai_errors import NAME, ErrorAnswer, reaction_to

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PAGE = "<html><body>Sign in to the network</body></html>"
SECRETS = ("k3y-of-Somebody", "Zum Löwen, a private matter")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "type", "message"]), inner),
    max_leaves=8,
)


def reaction(code: int, error: object = None, **headers: str) -> ProviderError:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    settings = {"key_setting": "OPENAI_API_KEY", "endpoint_setting": "spec.model.endpoint"}
    return reaction_to(ErrorAnswer(code, error, names), provider="openai", **settings, now=NOW)


def openai(code: str | None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"message": " ".join(SECRETS), "type": kind, "param": None, "code": code}


def flat(code: int, kind: str) -> dict[str, Any]:
    """As TEI words it, and vLLM before 0.10."""
    return {"message": " ".join(SECRETS), "code": code, "type": kind}


@pytest.mark.parametrize(
    ("code", "error", "kind", "shown", "reason"),
    [
        # a reason comes before the code that it is sent with
        (403, openai("model_not_found"), ProviderMisconfigured, "403 model_not_found", "ModelUnknown"),
        (400, openai("model_not_found"), ProviderMisconfigured, "400 model_not_found", "ModelUnknown"),
        (400, openai("invalid_api_key"), ProviderMisconfigured, "400 invalid_api_key", "ApiKeyInvalid"),
        (
            403,
            openai("unsupported_country_region_territory"),
            ProviderMisconfigured,
            "403 unsupported_country_region_territory",
            "PlaceNotServed",
        ),
        # OpenAI
        (400, openai(None), InputRejected, "400 invalid_request_error", "InputRejected"),
        (400, openai("context_length_exceeded"), InputRejected, "400 context_length_exceeded", "InputRejected"),
        (401, openai("invalid_api_key"), ProviderMisconfigured, "401 invalid_api_key", "ApiKeyInvalid"),
        (403, openai(None), ProviderMisconfigured, "403 invalid_request_error", "PermissionDenied"),
        (404, openai("model_not_found"), ProviderMisconfigured, "404 model_not_found", "ModelUnknown"),
        (500, openai(None, "server_error"), ProviderUnavailable, "500 server_error", None),
        (503, openai(None, "server_error"), ProviderUnavailable, "503 server_error", None),
        # TEI
        (413, flat(413, "Validation"), InputRejected, "413 Validation", "InputRejected"),
        (413, "length limit exceeded", InputRejected, "413", "InputRejected"),
        (422, flat(422, "Tokenizer"), InputRejected, "422 Tokenizer", "InputRejected"),
        (422, "Failed to deserialize the JSON body", InputRejected, "422", "InputRejected"),
        (424, flat(424, "Backend"), ProviderUnavailable, "424 Backend", None),
        (401, "", ProviderMisconfigured, "401", "ApiKeyInvalid"),
        (503, flat(503, "Unhealthy"), ProviderUnavailable, "503 Unhealthy", None),
        # infinity, vLLM, Ollama
        (422, {"detail": [{"msg": SECRETS[1]}]}, InputRejected, "422", "InputRejected"),
        (400, flat(400, "BadRequestError"), InputRejected, "400 BadRequestError", "InputRejected"),
        (401, "Unauthorized", ProviderMisconfigured, "401", "ApiKeyInvalid"),
        (404, openai(None, "not_found_error"), ProviderMisconfigured, "404 not_found_error", "ModelUnknown"),
        (404, {"detail": "Not Found"}, ProviderMisconfigured, "404", "ModelUnknown"),
        (405, {"detail": "Method Not Allowed"}, ProviderMisconfigured, "405", "ModelUnknown"),
        # what is in between
        (307, "", ProviderMisconfigured, "307", "EndpointRedirects"),
        (400, PAGE, ProviderUnavailable, "400", None),
        (422, PAGE, ProviderUnavailable, "422", None),
        (413, PAGE, InputRejected, "413", "InputRejected"),
        (403, PAGE, ProviderMisconfigured, "403", "PermissionDenied"),
        (407, PAGE, ProviderUnavailable, "407", None),
        (502, PAGE, ProviderUnavailable, "502", None),
        # gateways that have answered 200 before they know
        (200, flat(502, "no name"), ProviderUnavailable, "502", None),
        (200, {"message": SECRETS[1], "code": 400}, InputRejected, "400", "InputRejected"),
        (200, openai(None, "server_error"), AnswerUnusable, "200 server_error", None),
        (200, SECRETS[1], AnswerUnusable, "200", None),
    ],
)
def test_each_answer_asks_for_a_reaction(
    code: int, error: object, kind: type[ProviderError], shown: str, reason: str | None
) -> None:
    raised = reaction(code, error)
    assert (type(raised), raised.code, getattr(raised, "reason", None)) == (kind, shown, reason)
    assert raised.of_the_model == (kind in (InputRejected, AnswerUnusable) or reason == "ModelUnknown")
    said = f"{raised!r} {vars(raised)} {''.join(traceback.format_exception(raised))}"
    assert not any(secret in said for secret in SECRETS)


@pytest.mark.parametrize(
    ("code", "error", "headers", "quota", "pause_s"),
    [
        (429, openai("rate_limit_exceeded", "requests"), {"retry_after_ms": "1500"}, Quota.MINUTE, 1.5),
        (429, openai("rate_limit_exceeded", "tokens"), {"Retry_After": "20"}, Quota.MINUTE, 20.0),
        (429, flat(429, "Overloaded"), {}, Quota.MINUTE, None),
        (429, PAGE, {"Retry_After": "Sun, 01 Mar 2026 12:00:30 GMT"}, Quota.MINUTE, 30.0),
        (400, openai("rate_limit_exceeded"), {}, Quota.MINUTE, None),
        (200, {"message": "slow down", "code": 429}, {}, Quota.MINUTE, None),
        (429, openai("insufficient_quota"), {"Retry_After": "1"}, Quota.SPEND, None),
        (403, openai("billing_not_active"), {}, Quota.SPEND, None),
        (402, openai(None), {}, Quota.SPEND, None),
    ],
)
def test_a_limit_asks_for_a_pause_and_an_account_without_money_for_more(
    code: int, error: object, headers: dict[str, str], quota: Quota, pause_s: float | None
) -> None:
    raised = reaction(code, error, **headers)
    assert isinstance(raised, ProviderThrottled)
    assert (raised.quota, raised.retry_after_s) == (quota, pause_s)


def test_the_advice_names_where_key_and_endpoint_are_set() -> None:
    assert "set OPENAI_API_KEY to one that is valid" in reaction(401).message
    assert "OPENAI_API_KEY may not do this" in reaction(403).message
    assert "correct spec.model.name, or spec.model.endpoint" in reaction(404).message
    assert "set spec.model.endpoint to the final one" in reaction(308).message


@given(st.integers(200, 599), JSON)
def test_whatever_the_body_is_only_names_of_it_are_passed_on(code: int, error: object) -> None:
    raised = reaction(code, error)
    name = raised.code.partition(" ")[2]
    assert not name or NAME.fullmatch(name)
    assert raised.reached
