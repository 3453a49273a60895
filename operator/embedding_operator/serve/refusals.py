"""What is answered where no vectors can be, by the cause. Pure; called by search_embedder.py and model_calls.py.

Clients need not be people who may read sources, so they get the reason, and the sentence is logged.
"""

import math
import re
from collections.abc import Sequence

from embedding_operator.serve.messages import RequestRefused, invalid
from embedding_worker.errors import ProviderError, ProviderThrottled, SourceRefused
from embedding_worker.providers.problem import Problem, problem_of

NOT_SET_UP_PAUSE_S = 10.0
UNKNOWN_PAUSE_S = 1.0
THROTTLED = frozenset({"ProviderThrottled", "QuotaExhausted"})
"""The reasons of problems that are quotas."""
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""What can be the name of a source. Anything else is not repeated."""


def unknown_model(model: str, known: Sequence[str], *, namespace: str) -> RequestRefused:
    called = f"'{model}'" if NAME.fullmatch(model) else "of this name"
    has = f"it has: {', '.join(known)}" if known else "it has none"
    message = f"there is no EmbeddingSource {called} in namespace '{namespace}'; {has}"
    return RequestRefused(404, message, code="model_not_found", param="model")


def not_set_up(source: str, error: SourceRefused) -> RequestRefused:
    """The source, its provider or its key cannot be used until someone acts. The sentence may name a Secret or an address."""
    return RequestRefused(
        503,
        f"EmbeddingSource {source} cannot be used now ({error.reason}): {_see(source)}",
        code=error.reason,
        param="model",
        retry_after_s=NOT_SET_UP_PAUSE_S,
    )


def rate_limited(message: str, wait_s: float) -> RequestRefused:
    return RequestRefused(
        429, f"{message}: send the request again later", code="rate_limit_exceeded", retry_after_s=wait_s
    )


def paused(source: str, problem: Problem | None, wait_s: float) -> RequestRefused:
    """No call is made now: a circuit is open, or the provider has asked for a pause."""
    reason = "ProviderUnavailable" if problem is None else problem.reason
    message = f"no call is made to the model of EmbeddingSource {source} now ({reason}): {_see(source)}"
    return RequestRefused(429 if reason in THROTTLED else 503, message, code=reason, retry_after_s=wait_s)


def refused_text(number: int) -> RequestRefused:
    """The model embeds other texts, and not this one."""
    return invalid(f"the model refuses input[{number}], and accepts others: change this text", param=f"input[{number}]")


def failed(source: str, error: ProviderError, wait_s: float) -> RequestRefused:
    """The provider is away, or a key or a model is wrong."""
    status, reason = 429 if isinstance(error, ProviderThrottled) else 503, problem_of(error).reason
    message = f"the call to the model of EmbeddingSource {source} has failed ({reason}): {_see(source)}"
    return RequestRefused(status, message, code=reason, retry_after_s=wait_s)


def _see(source: str) -> str:
    return f"see the conditions of EmbeddingSource {source}"


def retry_after(wait_s: float) -> str:
    """The value of the header, in whole seconds."""
    return str(max(1, math.ceil(wait_s)))
