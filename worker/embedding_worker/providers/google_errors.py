"""Translates an error of a Google API by its HTTP code, its status and its details (google.rpc.ErrorInfo and others).

Pure; called by the modules that use Google's SDKs. The answer's own sentence is never passed on, because it may quote a row's
text or the key: only names from closed or narrow sets are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from embedding_worker.errors import (
    AnswerUnusable,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    Quota,
)
from embedding_worker.providers.http_settings import Access, kind_of, retry_after_s

# google/rpc/code.proto
STATUSES = frozenset(
    {"CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"}
) | {
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
}
REASON = re.compile(r"[A-Z][A-Z0-9_]{1,62}")  # google/rpc/error_details.proto, ErrorInfo.reason
QUOTA_NAME = re.compile(r"[A-Za-z0-9_.-]{1,120}")
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")  # google.protobuf.Duration, as JSON writes it
PER_DAY = re.compile(r"per[_ -]?day|daily", re.IGNORECASE)
# In a 429 without details, this is what an account without money is answered. A plain 429 mentions billing too, and the
# spend-based rate limit, a sum for any ten minutes, ends by itself (ai.google.dev/gemini-api/docs/rate-limits).
OUT_OF_MONEY = re.compile(r"credits are depleted|exceeded its monthly spending cap", re.IGNORECASE)
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class ErrorAnswer:
    """An answer that is an error. `payload` is its JSON, whatever that is, or None where it is none."""

    http_code: int
    payload: object
    retry_after: str | None = None
    """The header Retry-After."""

    @property
    def status(self) -> str:
        """Google's own name for the error; empty where the answer comes from a proxy or gateway in between."""
        status = self._error.get("status")
        return status if isinstance(status, str) and status in STATUSES else ""

    @property
    def code(self) -> str:
        return f"{self.http_code} {self.status}".strip()

    @property
    def reason(self) -> str:
        """ErrorInfo's reason, such as API_KEY_INVALID; empty where there is none."""
        for detail in self._details("ErrorInfo"):
            reason = detail.get("reason")
            if isinstance(reason, str) and REASON.fullmatch(reason):
                return reason
        return ""

    @property
    def is_of_money(self) -> bool:
        return self.reason.startswith("BILLING") or bool(OUT_OF_MONEY.search(str(self._error.get("message"))))

    def quotas(self) -> Iterator[tuple[str, str]]:
        """The quotas that were exceeded: name and limit."""
        for failure in self._details("QuotaFailure"):
            violations = failure.get("violations")
            for violation in violations if isinstance(violations, list) else ():
                if isinstance(violation, Mapping):
                    yield _quota(violation.get("quotaId"), violation.get("quotaValue"))
        for info in self._details("ErrorInfo"):
            metadata = info.get("metadata")
            if isinstance(metadata, Mapping) and "quota_limit" in metadata:
                yield _quota(metadata["quota_limit"], metadata.get("quota_limit_value"))

    def wanted_pause_s(self, now: datetime) -> float | None:
        """How long the provider asks not to be called, from RetryInfo, else from the header."""
        for detail in self._details("RetryInfo"):
            if found := DURATION.fullmatch(str(detail.get("retryDelay"))):
                return float(found[1])
        return retry_after_s({} if self.retry_after is None else {"Retry-After": self.retry_after}, now)

    @property
    def _error(self) -> Mapping[str, object]:
        payload = self.payload
        if isinstance(payload, list) and payload:  # so the streaming variant of the API answers, and some gateways
            payload = payload[0]
        error = payload.get("error") if isinstance(payload, Mapping) else None
        return error if isinstance(error, Mapping) else {}

    def _details(self, kind: str) -> Iterator[Mapping[str, object]]:
        details = self._error.get("details")
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, Mapping) and detail.get("@type") == f"type.googleapis.com/google.rpc.{kind}":
                yield detail


def reaction_to(answer: ErrorAnswer, *, provider: str, access: Access, now: datetime) -> ProviderError:
    """The error whose type asks for the reaction to this answer."""
    said = f"the provider {provider!r} answered {answer.code}" + (f" ({answer.reason})" if answer.reason else "")
    code = answer.code
    reason = camel_case(answer.reason or answer.status) or "ProviderMisconfigured"
    match answer.http_code, answer.status:
        case 429, _:
            return _throttled(answer, said, now)
        case 400, _ if answer.reason.startswith("API_KEY_"):  # the key is wrong, or has expired
            advice = f"it does not accept the key, set {access.key_name} to one that is valid"
        case 401, _:
            advice = f"it does not accept the key, set {access.key_name} to one that is valid"
        case 403, _:
            advice = (
                f"the key of {access.key_name} may not do this, give its project the permission, or set another key"
            )
        case 404, _:
            advice = f"it has no such model, correct spec.model.name, or {access.endpoint_name}"
        case 400, "FAILED_PRECONDITION":
            advice = "it does not serve this project or from this place, see its billing and its regions"
        case (400, "INVALID_ARGUMENT" | "OUT_OF_RANGE") | (413, _):
            return InputRejected("InputRejected", f"{said}: it refuses what was sent", code=code)
        case http_code, _ if http_code in REDIRECTS:
            advice = (
                f"it redirects to another address, which would get the key, set {access.endpoint_name} to the final one"
            )
            reason = "EndpointRedirects"
        case _:
            return ProviderUnavailable(said, code=code)
    return ProviderMisconfigured(f"{said}: {advice}", code=code, reason=reason, of_the_model=answer.http_code == 404)


def reaction_to_failure(
    failure: Exception, *, provider: str, access: Access, reached: bool, answered: bool, now: datetime
) -> ProviderError:
    """By the HTTP answer that the failure of a call carries; without one (no connection, no answer in time) it is an outage.

    `reached`: whether the request was sent. `answered`: whether a whole answer that says to be well was received.
    """
    response = getattr(failure, "response", None)
    http_code = getattr(response, "status_code", None)
    if response is None or not isinstance(http_code, int):
        message = f"the provider {provider!r} gave no usable answer: {kind_of(failure)}, at {access.endpoint}"
        return AnswerUnusable(message) if answered else ProviderUnavailable(message, reached=reached)
    try:
        payload = response.json()
    except ValueError:
        payload = None
    answer = ErrorAnswer(http_code, payload, response.headers.get("Retry-After"))
    return reaction_to(answer, provider=provider, access=access, now=now)


def camel_case(name: str) -> str:
    """API_KEY_INVALID as ApiKeyInvalid: a condition's reason."""
    return "".join(part.capitalize() for part in name.split("_"))


def _throttled(answer: ErrorAnswer, said: str, now: datetime) -> ProviderThrottled:
    quotas = list(answer.quotas())
    names = ", ".join(sorted({name for name, _ in quotas if name}))
    said += f", quota {names}" if names else ""
    quota, advice = _used_up(answer, quotas)
    if quota is not Quota.MINUTE:
        # RetryInfo still names some seconds, after which nothing will have changed, so it is not passed on.
        return ProviderThrottled(f"{said}: {advice}", code=answer.code, quota=quota)
    pause_s = answer.wanted_pause_s(now)
    message = f"{said}: it asks for a pause" + (f" of {pause_s:g} s" if pause_s is not None else "")
    return ProviderThrottled(message, code=answer.code, retry_after_s=pause_s)


def _used_up(answer: ErrorAnswer, quotas: Sequence[tuple[str, str]]) -> tuple[Quota, str]:
    """Which quota is used up, and what to do if no short pause ends that."""
    if answer.is_of_money:
        return Quota.SPEND, "its project has no credits left or has reached its spending cap, correct its billing"
    if any(limit == "0" for _, limit in quotas):
        return Quota.DAY, "the quota of its project for this model is 0, see its plan and its billing"
    if any(PER_DAY.search(name) for name, _ in quotas):
        # ai.google.dev/gemini-api/docs/rate-limits: "Requests per day (RPD) quotas reset at midnight Pacific time."
        return Quota.DAY, "the quota of the day is used up until midnight Pacific time, or see its plan and its billing"
    return Quota.MINUTE, ""


def _quota(name: object, limit: object) -> tuple[str, str]:
    text = str(name)
    return text if QUOTA_NAME.fullmatch(text) else "", str(limit)
