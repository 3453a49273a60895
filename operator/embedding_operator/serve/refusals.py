"""What is answered where no vectors can be, by the cause. Pure; called by search_embedder.py and model_calls.py."""

import math
from collections.abc import Sequence

from embedding_operator.serve.messages import RequestRefused, invalid
from embedding_worker.errors import ProviderError, ProviderThrottled, SourceRefused
from embedding_worker.providers.problem import Problem, problem_of

NOT_SET_UP_PAUSE_S = 10.0
UNKNOWN_PAUSE_S = 1.0
THROTTLED = frozenset({"ProviderThrottled", "QuotaExhausted"})
"""The reasons of problems that are quotas."""


def unknown_model(known: Sequence[str]) -> RequestRefused:
    names = f"the EmbeddingSources here are {', '.join(known)}" if known else "there is no EmbeddingSource here"
    return RequestRefused(404, f"model is no EmbeddingSource: {names}", code="model_not_found", param="model")


def not_set_up(error: SourceRefused) -> RequestRefused:
    """The source, its provider or its key cannot be used until someone acts."""
    return RequestRefused(503, error.message, code=error.reason, param="model", retry_after_s=NOT_SET_UP_PAUSE_S)


def rate_limited(message: str, wait_s: float) -> RequestRefused:
    return RequestRefused(
        429, f"{message}: send the request again later", code="rate_limit_exceeded", retry_after_s=wait_s
    )


def paused(problem: Problem | None, wait_s: float) -> RequestRefused:
    """No call is made now: a circuit is open, or the provider has asked for a pause."""
    if problem is not None and problem.reason in THROTTLED:
        return RequestRefused(429, problem.message, code=problem.reason, retry_after_s=wait_s)
    message = "the model cannot be called now" if problem is None else problem.message
    return RequestRefused(503, message, code=_code(problem), retry_after_s=wait_s)


def refused_text(number: int) -> RequestRefused:
    """The model embeds other texts, and not this one."""
    return invalid(f"the model refuses input[{number}], and accepts others: change this text", param=f"input[{number}]")


def failed(error: ProviderError, wait_s: float) -> RequestRefused:
    """The provider is away, or a key or a model is wrong."""
    status = 429 if isinstance(error, ProviderThrottled) else 503
    return RequestRefused(status, error.message, code=problem_of(error).reason, retry_after_s=wait_s)


def _code(problem: Problem | None) -> str:
    return "ProviderUnavailable" if problem is None else problem.reason


def retry_after(wait_s: float) -> str:
    """The value of the header, in whole seconds."""
    return str(max(1, math.ceil(wait_s)))
