"""The error answers of the Gemini API, in its words. Called by the fake server.

They quote the key, as the real ones were observed to, and also the text, so that tests find code that copies the words of a
provider into a log or a status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TYPES = "type.googleapis.com/google.rpc."
SERVICE = "generativelanguage.googleapis.com"
QUOTAS = {
    "minute": "EmbedContentRequestsPerMinutePerProjectPerModel-FreeTier",
    "minute's tokens": "EmbedContentInputTokensPerMinutePerProjectPerModel-FreeTier",
    "day": "EmbedContentRequestsPerDayPerProjectPerModel-FreeTier",
}


@dataclass(frozen=True)
class ErrorBody:
    """One error: its HTTP code, its status as google.rpc.Code has it, its sentence, its details."""

    code: int
    status: str
    message: str
    details: list[dict[str, Any]] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = self.details
        return {"error": error}


def invalid(*sentences: str) -> ErrorBody:
    """The request is wrong; one sentence for each field."""
    return ErrorBody(400, "INVALID_ARGUMENT", "\n".join(f"* {sentence}" for sentence in sentences))


def refused_text(place: int, text: str) -> ErrorBody:
    return invalid(f"BatchEmbedContentsRequest.requests[{place}].content: cannot embed {text!r}")


def invalid_key(key: str) -> ErrorBody:
    sentence = "API key not valid. Please pass a valid API key."
    return ErrorBody(
        400,
        "INVALID_ARGUMENT",
        sentence,
        [
            _info("API_KEY_INVALID"),
            {"@type": f"{TYPES}LocalizedMessage", "locale": "en-US", "message": sentence},
            {"@type": f"{TYPES}DebugInfo", "detail": f"Invalid API key: {key}"},
        ],
    )


def missing_key() -> ErrorBody:
    return ErrorBody(
        403,
        "PERMISSION_DENIED",
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


def unauthenticated() -> ErrorBody:
    sentence = "Request had invalid authentication credentials."
    return ErrorBody(401, "UNAUTHENTICATED", sentence, [_info("ACCESS_TOKEN_TYPE_UNSUPPORTED")])


def forbidden() -> ErrorBody:
    sentence = "Generative Language API has not been used in project 1 before or it is disabled."
    return ErrorBody(403, "PERMISSION_DENIED", sentence, [_info("SERVICE_DISABLED")])


def unknown_model(model: str, method: str) -> ErrorBody:
    sentence = f"models/{model} is not found for API version v1beta, or is not supported for {method}."
    return ErrorBody(404, "NOT_FOUND", sentence)


def failed_precondition() -> ErrorBody:
    return ErrorBody(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")


def throttled(*, per: str, retry_after_s: float) -> ErrorBody:
    """A quota per minute or day is used up. The one of the day also asks for a few seconds only, as the real API does."""
    violation = {
        "quotaMetric": f"{SERVICE}/embed_content_free_tier_{'input_token_count' if 'tokens' in per else 'requests'}",
        "quotaId": QUOTAS[per],
        "quotaDimensions": {"location": "global", "model": "gemini-embedding-1.0"},
        "quotaValue": "1000" if per == "day" else "100",
    }
    link = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    return ErrorBody(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details.",
        [
            {"@type": f"{TYPES}QuotaFailure", "violations": [violation]},
            {"@type": f"{TYPES}Help", "links": [link]},
            {"@type": f"{TYPES}RetryInfo", "retryDelay": f"{retry_after_s:g}s"},
        ],
    )


def throttled_plain() -> ErrorBody:
    return ErrorBody(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")


def spending_cap_reached() -> ErrorBody:
    sentence = "Your project has exceeded its monthly spending cap. Please go to AI Studio to manage your project."
    return ErrorBody(429, "RESOURCE_EXHAUSTED", sentence)


def internal() -> ErrorBody:
    return ErrorBody(500, "INTERNAL", "An internal error has occurred. Please retry.")


def unavailable() -> ErrorBody:
    return ErrorBody(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")


def _info(reason: str) -> dict[str, Any]:
    return {
        "@type": f"{TYPES}ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": SERVICE},
    }
