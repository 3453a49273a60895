"""Why no calls are made, or why they fail: what the source's condition ProviderReady says. Pure."""

from dataclasses import dataclass

from embedding_worker.errors import InputRejected, ProviderError, ProviderMisconfigured, ProviderThrottled


@dataclass(frozen=True)
class Problem:
    """A reason in CamelCase, and a sentence."""

    reason: str
    message: str


def problem_of(error: ProviderError) -> Problem:
    """What is said after this error."""
    match error:
        case ProviderMisconfigured():
            reason = error.reason
        case ProviderThrottled():
            reason = "QuotaExhausted" if error.quota_exhausted else "ProviderThrottled"
        case InputRejected():
            reason = "RequestsRefused"
        case _:
            reason = "ProviderUnavailable"
    return Problem(reason, error.message)
