"""Translates an error of a server with OpenAI's API by its HTTP code and its own code. Pure; called by openai.py.

The answer's own sentence is never passed on, because it may quote a row's text or the key: only names from a narrow set are.
"""

import re
from collections.abc import Mapping
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
from embedding_worker.providers.http_settings import retry_after_s

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,62}")
OUT_OF_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
"""platform.openai.com, error codes: the account has no credits, or has reached its limit."""
WRONG_KEY = {"invalid_api_key", "invalid_issuer", "account_deactivated"}
WRONG_PLACE = {"unsupported_country_region_territory"}
TOO_LARGE = 413
"""TEI answers it where a batch has more texts than it was started for, and proxies where a body is too large."""
REFUSED = (400, 422)
"""What was sent is refused, if a server with this API says so: filters and proxies answer pages with the same codes."""
NOT_FOUND = (404, 405)


@dataclass(frozen=True)
class ErrorAnswer:
    answered: int
    """The HTTP code; 200 where the error is in the body of an answer that says to be well."""
    error: object
    """The value of `error` in its body, or the body, whatever it is."""
    headers: Mapping[str, str]

    @property
    def http_code(self) -> int:
        """Gateways answer 200 before they know of the error, and put its code into the body."""
        code = self._member("code")
        return code if self.answered == 200 and isinstance(code, int) and 400 <= code < 600 else self.answered

    @property
    def name(self) -> str:
        """Its own code or type, such as invalid_api_key; empty where it has none."""
        values = (self._member(key) for key in ("code", "type", "error_type"))
        return next((value for value in values if isinstance(value, str) and NAME.fullmatch(value)), "")

    @property
    def code(self) -> str:
        return f"{self.http_code} {self.name}".strip()

    @property
    def is_page(self) -> bool:
        """Whether it is a page of HTML: of a filter, a proxy or a gateway in between."""
        return isinstance(self.error, str) and self.error.lstrip().startswith("<")

    def _member(self, key: str) -> object:
        return self.error.get(key) if isinstance(self.error, Mapping) else None


def reaction_to(
    answer: ErrorAnswer, *, provider: str, key_setting: str, endpoint_setting: str, now: datetime
) -> ProviderError:
    """The error whose type asks for the reaction to this answer: by its own code first, and then by the HTTP code."""
    said, code = f"the provider {provider!r} answered {answer.code}", answer.code
    match answer.http_code, answer.name:
        case http_code, name if http_code == 402 or name in OUT_OF_MONEY:
            advice = "the account has no credits left or has reached its limit, correct its billing"
            return ProviderThrottled(f"{said}: {advice}", code=code, quota=Quota.SPEND)
        case (429, _) | (_, "rate_limit_exceeded"):
            pause_s = retry_after_s(answer.headers, now)
            asked = f" of {pause_s:g} s" if pause_s is not None else ""
            return ProviderThrottled(f"{said}: it asks for a pause{asked}", code=code, retry_after_s=pause_s)
        case http_code, name if name in WRONG_KEY or http_code == 401:
            advice, reason = f"it does not accept the key, set {key_setting} to one that is valid", "ApiKeyInvalid"
        case http_code, name if name == "model_not_found" or http_code in NOT_FOUND:
            advice = f"it has no such model, correct spec.model.name, or {endpoint_setting}"
            return ProviderMisconfigured(f"{said}: {advice}", code=code, reason="ModelUnknown", of_the_model=True)
        case _, name if name in WRONG_PLACE:
            advice, reason = "it does not serve this place, call it from another region", "PlaceNotServed"
        case 403, _:
            advice, reason = f"{key_setting} may not do this, give it the permission", "PermissionDenied"
        case http_code, _ if 300 <= http_code < 400:
            advice = (
                f"it redirects to another address, which would get the key, set {endpoint_setting} to the final one"
            )
            reason = "EndpointRedirects"
        case http_code, _ if http_code == TOO_LARGE or (http_code in REFUSED and not answer.is_page):
            return InputRejected("InputRejected", f"{said}: it refuses what was sent", code=code)
        case 200, _:
            return AnswerUnusable(f"{said}: an error, as if it was well", code=code)
        case _:
            return ProviderUnavailable(said, code=code)
    return ProviderMisconfigured(f"{said}: {advice}", code=code, reason=reason)
