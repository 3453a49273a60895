"""Translates an error of a server with OpenAI's API by its HTTP code and its own code. Pure; called by openai.py.

The answer's own sentence is never passed on, because it may quote a row's text or the key: only names from a narrow set are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from embedding_worker.errors import (
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    Quota,
)
from embedding_worker.providers.http_settings import retry_after_s

NAME = re.compile(r"[a-z][a-z0-9_]{1,62}")
OUT_OF_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
"""platform.openai.com, error codes: the account has no credits, or has reached its limit."""
REFUSED = (400, 413, 422)
"""What was sent is refused. 413: TEI answers it where a batch has more texts than it was started for."""


@dataclass(frozen=True)
class ErrorAnswer:
    http_code: int
    """200 where the error is in the body of an answer that says to be well."""
    error: object
    """The value of `error` in its body, or the body, whatever it is."""
    headers: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its own code or type, such as invalid_api_key; empty where it has none."""
        for key in ("code", "type", "error_type"):
            value = self.error.get(key) if isinstance(self.error, Mapping) else None
            if isinstance(value, str) and NAME.fullmatch(value):
                return value
        return ""

    @property
    def code(self) -> str:
        return f"{self.http_code} {self.name}".strip()


def reaction_to(
    answer: ErrorAnswer, *, provider: str, key_setting: str, endpoint_setting: str, now: datetime
) -> ProviderError:
    """The error whose type asks for the reaction to this answer: by its own code first, and then by the HTTP code."""
    said, code = f"the provider {provider!r} answered {answer.code}", answer.code
    match answer.http_code, answer.name:
        case _, name if name in OUT_OF_MONEY:
            return ProviderThrottled(
                f"{said}: the account has no credits left or has reached its limit, correct its billing",
                code=code,
                quota=Quota.SPEND,
            )
        case (429, _) | (_, "rate_limit_exceeded"):
            pause_s = retry_after_s(answer.headers, now)
            asked = f" of {pause_s:g} s" if pause_s is not None else ""
            return ProviderThrottled(f"{said}: it asks for a pause{asked}", code=code, retry_after_s=pause_s)
        case (401, _) | (_, "invalid_api_key"):
            advice, reason = f"it does not accept the key, set {key_setting} to one that is valid", "ApiKeyInvalid"
        case 403, _:
            advice, reason = f"the key of {key_setting} may not do this, give it the permission", "PermissionDenied"
        case (404, _) | (_, "model_not_found"):
            advice = f"it has no such model, correct spec.model.name, or {endpoint_setting}"
            return ProviderMisconfigured(f"{said}: {advice}", code=code, reason="ModelUnknown", of_the_model=True)
        case http_code, _ if 300 <= http_code < 400:
            advice = (
                f"it redirects to another address, which would get the key, set {endpoint_setting} to the final one"
            )
            reason = "EndpointRedirects"
        case http_code, _ if http_code in REFUSED:
            return InputRejected("InputRejected", f"{said}: it refuses what was sent", code=code)
        case _:
            return ProviderUnavailable(said, code=code)
    return ProviderMisconfigured(f"{said}: {advice}", code=code, reason=reason)
