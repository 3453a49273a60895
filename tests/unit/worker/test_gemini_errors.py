"""How each answer of the Gemini API is translated into an error of this project, without any of its own sentences."""

import json
import math
import traceback
from datetime import UTC, datetime
from types import SimpleNamespace
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
    SourceRefused,
)
from embedding_worker.providers.blocking_call import BlockingCall
from embedding_worker.providers.gemini import PROVIDER, GeminiEmbedder, translate_sdk_errors
from embedding_worker.providers.google_errors import ErrorAnswer, reaction_to, reaction_to_failure
from embedding_worker.providers.http_settings import Access
from embedding_worker.source import Model
from hack.provider_server import answers
from hack.provider_server.answers import ErrorBody

KEY = "k3y-of-Somebody"
HERE = Access("http://here", "GEMINI_API_KEY", "EMBEDDING_GEMINI_ENDPOINT")
TEXT = "Zum Löwen, a private matter"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MODEL = Model("gemini", "gemini-embedding-001", 768)
TEXTS = st.text() | st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,12})?s?", fullmatch=True) | st.datetimes().map(str)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "details", "@type", "violations", "quotaId", "quotaValue", "metadata"]), inner
        )
    ),
    max_leaves=8,
)


def reaction(body: ErrorBody | None = None, *, code: int | None = None, **given: Any) -> ProviderError:
    payload = given.pop("payload", body.as_json() if body else None)
    http_code = code if code is not None else (body.code if body else 0)
    answer = ErrorAnswer(http_code, payload, **given)
    return reaction_to(answer, provider="gemini", access=HERE, now=NOW)


def with_details(code: int, status: str, *details: dict[str, Any], message: str = "") -> ErrorBody:
    return ErrorBody(code, status, message, list(details))


@pytest.mark.parametrize(
    ("body", "kind", "code", "reason"),
    [
        (answers.refused_text(0, TEXT), InputRejected, "400 INVALID_ARGUMENT", "InputRejected"),
        (answers.invalid("too many"), InputRejected, "400 INVALID_ARGUMENT", "InputRejected"),
        (ErrorBody(400, "OUT_OF_RANGE", ""), InputRejected, "400 OUT_OF_RANGE", "InputRejected"),
        (answers.invalid_key(KEY), ProviderMisconfigured, "400 INVALID_ARGUMENT", "ApiKeyInvalid"),
        (answers.failed_precondition(), ProviderMisconfigured, "400 FAILED_PRECONDITION", "FailedPrecondition"),
        (answers.unauthenticated(), ProviderMisconfigured, "401 UNAUTHENTICATED", "AccessTokenTypeUnsupported"),
        (answers.missing_key(), ProviderMisconfigured, "403 PERMISSION_DENIED", "PermissionDenied"),
        (answers.forbidden(), ProviderMisconfigured, "403 PERMISSION_DENIED", "ServiceDisabled"),
        (answers.unknown_model("x", "embedContent"), ProviderMisconfigured, "404 NOT_FOUND", "NotFound"),
        (answers.throttled(per="minute", retry_after_s=7), ProviderThrottled, "429 RESOURCE_EXHAUSTED", None),
        (ErrorBody(499, "CANCELLED", ""), ProviderUnavailable, "499 CANCELLED", None),
        (answers.internal(), ProviderUnavailable, "500 INTERNAL", None),
        (ErrorBody(501, "UNIMPLEMENTED", ""), ProviderUnavailable, "501 UNIMPLEMENTED", None),
        (answers.unavailable(), ProviderUnavailable, "503 UNAVAILABLE", None),
        (ErrorBody(504, "DEADLINE_EXCEEDED", ""), ProviderUnavailable, "504 DEADLINE_EXCEEDED", None),
    ],
)
def test_each_answer_asks_for_one_reaction(body: ErrorBody, kind: type, code: str, reason: str | None) -> None:
    error = reaction(body)
    assert (type(error), error.code, getattr(error, "reason", None)) == (kind, code, reason)
    assert code in error.message
    for private in (KEY, TEXT):
        assert private not in f"{error} {error!r} {vars(error)}"


@pytest.mark.parametrize(
    ("http_code", "kind"),
    [
        (400, ProviderUnavailable),  # Google's own 400 has a status: this one says nothing of the texts
        (401, ProviderMisconfigured),
        (403, ProviderMisconfigured),
        (404, ProviderMisconfigured),
        (408, ProviderUnavailable),
        (304, ProviderUnavailable),
        (307, ProviderMisconfigured),
        (413, InputRejected),
        (429, ProviderThrottled),
        (500, ProviderUnavailable),
        (502, ProviderUnavailable),
    ],
)
@pytest.mark.parametrize(
    "payload",
    [
        None,
        "a word",
        7,
        [],
        {},
        {"error": "a word"},
        {"error": {"status": 7, "details": "x"}},
        {"error": {"details": [7]}},
    ],
)
def test_an_answer_of_something_in_between_goes_by_its_code(http_code: int, kind: type, payload: object) -> None:
    error = reaction(code=http_code, payload=payload)
    assert (type(error), error.code) == (kind, str(http_code))
    assert error.of_the_model == (http_code in (404, 413))


def test_names_that_google_does_not_have_are_not_repeated() -> None:
    detail = {"@type": f"{answers.TYPES}ErrorInfo", "reason": TEXT}
    error = reaction(with_details(403, TEXT, detail))
    assert (error.code, getattr(error, "reason", "")) == ("403", "ProviderMisconfigured")
    assert TEXT not in str(error)


def test_an_expired_key_is_answered_as_a_wrong_one_is_and_is_no_fault_of_the_text() -> None:
    expired = with_details(400, "INVALID_ARGUMENT", {"@type": f"{answers.TYPES}ErrorInfo", "reason": "API_KEY_EXPIRED"})
    error = reaction(expired)
    assert isinstance(error, ProviderMisconfigured)
    assert "set GEMINI_API_KEY to one that is valid" in error.message


@pytest.mark.parametrize("http_code", [301, 302, 303, 307, 308])
def test_a_redirect_is_no_endpoint_and_the_remedy_names_its_setting(http_code: int) -> None:
    error = reaction(code=http_code)
    assert isinstance(error, ProviderMisconfigured)
    assert (error.reason, error.of_the_model) == ("EndpointRedirects", False)
    assert error.message == (
        f"the provider 'gemini' answered {http_code}: it redirects to another address, which would get the key, "
        "set EMBEDDING_GEMINI_ENDPOINT to the final one"
    )


def throttled(error: ProviderError) -> tuple[float | None, Quota]:
    assert isinstance(error, ProviderThrottled)
    assert error.quota_exhausted == (error.quota is not Quota.MINUTE)
    return error.retry_after_s, error.quota


@pytest.mark.parametrize(
    ("delay", "header", "pause_s"),
    [
        ("7s", None, 7.0),
        ("0s", None, 0.0),
        ("48.75s", "3", 48.75),
        ("soon", "3", 3.0),
        (None, "3", 3.0),
        (None, " 3 ", 3.0),
        (None, "Sun, 01 Mar 2026 12:01:30 GMT", 90.0),
        (None, "Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        (None, "Sun, 01 Mar 2026 12:01:30", None),
        (None, "999999999", 999999999.0),
        (None, "9" * 400, None),
        (None, "Thu, 31 Dec 2099 23:59:59 GMT", 2330078399.0),
        (None, "Fri, 99 Foo 99999 99:99:99 GMT", None),
        (None, "²", None),
        ("999999999s", None, 999999999.0),
        ("-7s", "3", 3.0),
        ("9" * 400 + "s", None, None),
        (None, "-3", None),
        (None, "inf", None),
        (None, "", None),
        (None, None, None),
    ],
)
def test_the_pause_that_is_asked_for_comes_from_retry_info_or_else_from_the_header(
    delay: str | None, header: str | None, pause_s: float | None
) -> None:
    details = [] if delay is None else [{"@type": f"{answers.TYPES}RetryInfo", "retryDelay": delay}]
    body = with_details(429, "RESOURCE_EXHAUSTED", *details)
    assert throttled(reaction(body, retry_after=header)) == (pause_s, Quota.MINUTE)


@given(delay=TEXTS | st.none(), header=TEXTS | st.none(), payload=JSON)
def test_no_answer_429_raises_and_each_pause_is_finite(delay: str | None, header: str | None, payload: object) -> None:
    details = [{"@type": f"{answers.TYPES}RetryInfo", "retryDelay": delay}, payload]
    answer = {"error": {"details": details, "message": payload}}
    for given_payload in (answer, payload):
        pause_s, _ = throttled(reaction(code=429, payload=given_payload, retry_after=header))
        assert pause_s is None or (pause_s >= 0 and math.isfinite(pause_s))


@pytest.mark.parametrize("per", ["minute", "minute's tokens"])
def test_a_quota_of_the_minute_is_named_and_is_not_used_up(per: str) -> None:
    error = reaction(answers.throttled(per=per, retry_after_s=7))
    assert throttled(error) == (7.0, Quota.MINUTE)
    assert f"quota {answers.QUOTAS[per]}: it asks for a pause of 7 s" in error.message


def test_a_quota_of_the_day_is_used_up_and_its_few_seconds_are_not_believed() -> None:
    error = reaction(answers.throttled(per="day", retry_after_s=7))
    assert throttled(error) == (None, Quota.DAY)
    assert (
        f"quota {answers.QUOTAS['day']}: the quota of the day is used up until midnight Pacific time" in error.message
    )


def info(reason: str, **metadata: str) -> dict[str, Any]:
    return {"@type": f"{answers.TYPES}ErrorInfo", "reason": reason, "metadata": metadata}


def quota_failure(**violation: str) -> dict[str, Any]:
    return {"@type": f"{answers.TYPES}QuotaFailure", "violations": [violation]}


@pytest.mark.parametrize(
    ("details", "message", "quota", "sentence"),
    [
        ([quota_failure(quotaId="PerMinute", quotaValue="0")], "", Quota.DAY, "for this model is 0, see its plan"),
        (
            [info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDayPerUser", quota_limit_value="250")],
            "",
            Quota.DAY,
            "quota RequestsPerDayPerUser: the quota of the day is used up",
        ),
        ([], "Your prepayment credits are depleted.", Quota.SPEND, "correct its billing"),
        ([], "Your project has exceeded its monthly spending cap.", Quota.SPEND, "correct its billing"),
        ([info("BILLING_DISABLED")], "", Quota.SPEND, "correct its billing"),
        ([], "You exceeded your spend-based rate limit.", Quota.MINUTE, "it asks for a pause"),
        ([], "You exceeded your current quota, please check your plan and billing details.", Quota.MINUTE, "a pause"),
        ([quota_failure(quotaId="PerMinute", quotaValue="10")], "", Quota.MINUTE, "quota PerMinute: it asks for"),
    ],
)
def test_what_is_used_up_is_told_by_quota_and_by_the_sentence_of_an_account_without_money(
    details: list[dict[str, Any]], message: str, quota: Quota, sentence: str
) -> None:
    error = reaction(with_details(429, "RESOURCE_EXHAUSTED", *details, message=message))
    assert throttled(error) == (None, quota)
    assert sentence in error.message


class SdkError(Exception):
    """As google.api_core's: the SDK's own sentence, which quotes request and answer, and the response."""

    def __init__(self, response: object) -> None:
        super().__init__(f"400 POST https://host?key={KEY}: {TEXT}")
        self.response = response


def sdk_error(status_code: int, body: str, headers: dict[str, str]) -> SdkError:
    return SdkError(SimpleNamespace(status_code=status_code, json=lambda: json.loads(body), headers=headers))


def reaction_to_error(error: Exception, *, reached: bool = True, answered: bool = False) -> ProviderError:
    return reaction_to_failure(error, provider="gemini", access=HERE, reached=reached, answered=answered, now=NOW)


def test_the_sdks_error_is_read_by_the_answer_that_it_carries() -> None:
    error = sdk_error(429, "<html>", {"Retry-After": "9"})
    assert throttled(reaction_to_error(error)) == (9.0, Quota.MINUTE)


@pytest.mark.parametrize("reached", [True, False])
@pytest.mark.parametrize("error", [TimeoutError(TEXT), AttributeError(KEY), ValueError(TEXT), SdkError(None)])
def test_without_an_answer_it_is_an_outage_of_which_only_the_kind_is_said(error: Exception, reached: bool) -> None:
    reacted = reaction_to_error(error, reached=reached)
    assert (type(reacted), reacted.reached) == (ProviderUnavailable, reached)
    assert str(reacted) == f"the provider 'gemini' gave no usable answer: {type(error).__name__}, at http://here"


def test_a_whole_answer_that_the_sdk_cannot_read_is_unusable() -> None:
    reacted = reaction_to_error(ValueError(TEXT), answered=True)
    assert type(reacted) is AnswerUnusable
    assert TEXT not in str(reacted)


def test_a_traceback_of_our_error_does_not_show_the_sdks() -> None:
    with pytest.raises(ProviderUnavailable) as raised, translate_sdk_errors(HERE, BlockingCall("gemini")):
        raise sdk_error(503, json.dumps(answers.unavailable().as_json()), {})
    shown = "".join(traceback.format_exception(raised.value))
    assert "503 UNAVAILABLE" in shown
    assert KEY not in shown
    assert TEXT not in shown


def test_an_error_of_this_project_is_not_translated_again() -> None:
    translated = InputRejected("TextTooLong", "a sentence")
    with pytest.raises(InputRejected) as raised, translate_sdk_errors(HERE, BlockingCall("gemini")):
        raise translated
    assert raised.value is translated


def test_a_key_is_not_shown_by_the_embedder() -> None:
    embedder = PROVIDER.make(MODEL, {"GEMINI_API_KEY": KEY})
    assert KEY not in f"{embedder} {embedder!r}"


def refused(model: Model = MODEL, *, api_key: str = KEY, endpoint: str | None = None) -> SourceRefused:
    with pytest.raises(SourceRefused) as raised:
        GeminiEmbedder(model, api_key=api_key, endpoint=endpoint)
    assert KEY not in raised.value.message
    return raised.value


@pytest.mark.parametrize(
    ("name", "dimensions", "task_type", "reason", "sentence"),
    [
        ("embedding-001", 768, None, "ModelUnknown", "the provider 'gemini' has 'gemini-embedding-001'"),
        ("gemini-embedding-2", 768, None, "ModelUnknown", "needs its task written into each text"),
        ("models/gemini-embedding-2-preview", 768, None, "ModelUnknown", "needs its task written into each text"),
        ("gemini-embedding-001", 0, None, "WrongDimensions", "spec.model.dimensions is 0"),
        ("gemini-embedding-001", 3073, None, "WrongDimensions", "gives 1 to 3072"),
        ("gemini-embedding-001", 768, "DOCUMENT", "TaskTypeUnknown", "spec.model.taskType is 'DOCUMENT'"),
    ],
)
def test_a_model_that_gemini_does_not_have_is_refused(
    name: str, dimensions: int, task_type: str | None, reason: str, sentence: str
) -> None:
    refusal = refused(Model("gemini", name, dimensions, task_type))
    assert refusal.reason == reason
    assert sentence in refusal.message


@pytest.mark.parametrize("name", ["gemini-embedding-001", "models/gemini-embedding-001"])
def test_the_model_goes_by_both_of_its_names(name: str) -> None:
    GeminiEmbedder(Model("gemini", name, 3072, "SEMANTIC_SIMILARITY"), api_key=f"{KEY}\n", endpoint="http://here:8080/")


@pytest.mark.parametrize("key", ["", " ", f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"{KEY}\x00", f"{KEY}é"])
def test_a_key_that_is_none_is_refused_without_showing_it(key: str) -> None:
    assert refused(api_key=key).reason == "ProviderKeyInvalid"


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("generativelanguage.googleapis.com", "EMBEDDING_GEMINI_ENDPOINT is 'generativelanguage.googleapis.com'"),
        ("ftp://here", "EMBEDDING_GEMINI_ENDPOINT is 'ftp://here'"),
        ("http://", "EMBEDDING_GEMINI_ENDPOINT is 'http:'"),
        ("http://here:port", "EMBEDDING_GEMINI_ENDPOINT is 'http://here:port'"),
        (f"https://me:{KEY}@here", "is one with a user, a query or a fragment"),
        (f"https://me:{KEY}@here:port", "is one with a user, a query or a fragment"),
        (f"https://here?key={KEY}", "is one with a user, a query or a fragment"),
    ],
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str, shown: str) -> None:
    refusal = refused(endpoint=endpoint)
    assert refusal.reason == "EndpointInvalid"
    assert shown in refusal.message
