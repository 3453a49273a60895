"""The error answers of servers with OpenAI's API, each in its own form. Called by openai_api.py.

They quote the key and the text, so that tests find code that copies the words of a provider into a log or a status.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Dialect(StrEnum):
    """Whose answers are given. The limits and the forms of errors differ."""

    OPENAI = "openai"
    TEI = "tei"
    """Hugging Face's text-embeddings-inference: router/src/http/server.rs, openai_embed."""
    INFINITY = "infinity"
    """michaelfeil/infinity: fastapi_schemas/errors.py."""
    VLLM = "vllm"
    """vllm/entrypoints/openai/engine/protocol.py, ErrorResponse."""
    OLLAMA = "ollama"
    """ollama/openai/openai.go, NewError."""


@dataclass(frozen=True)
class OpenAIError:
    """One error: its HTTP code, its sentence, OpenAI's own code and type for it."""

    dialect: Dialect
    code: int
    message: str
    name: str | None = None
    kind: str = "invalid_request_error"
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> Any:
        return FORMS[self.dialect](self)


TEI_KINDS = {413: "Validation", 422: "Tokenizer", 424: "Backend", 429: "Overloaded", 503: "Unhealthy"}
VLLM_KINDS = {400: "BadRequestError", 404: "NotFoundError", 429: "TooManyRequestsError"}
OLLAMA_KINDS = {400: "invalid_request_error", 404: "not_found_error"}


def _of_openai(error: OpenAIError) -> Any:
    return {"error": {"message": error.message, "type": error.kind, "param": None, "code": error.name}}


def _of_tei(error: OpenAIError) -> Any:
    return {"message": error.message, "code": error.code, "type": TEI_KINDS.get(error.code, "Backend")}


def _of_infinity(error: OpenAIError) -> Any:
    return {"error": {"message": error.message, "type": None, "param": None, "code": error.code}}


def _of_vllm(error: OpenAIError) -> Any:
    if error.code == 401:  # its middleware
        return {"error": "Unauthorized"}
    kind = VLLM_KINDS.get(error.code, "InternalServerError")
    return {"error": {"message": error.message, "type": kind, "param": None, "code": error.code}}


def _of_ollama(error: OpenAIError) -> Any:
    kind = OLLAMA_KINDS.get(error.code, "api_error")
    return {"error": {"message": error.message, "type": kind, "param": None, "code": None}}


FORMS: dict[Dialect, Callable[[OpenAIError], Any]] = {
    Dialect.OPENAI: _of_openai,
    Dialect.TEI: _of_tei,
    Dialect.INFINITY: _of_infinity,
    Dialect.VLLM: _of_vllm,
    Dialect.OLLAMA: _of_ollama,
}
REFUSED = {Dialect.TEI: 422, Dialect.INFINITY: 422}
"""The code with which a text is refused, where it is not 400."""
FAILED = {Dialect.TEI: 424}
"""The code of an inference that failed, where it is not 500."""


def refused_text(dialect: Dialect, place: int, text: str) -> OpenAIError:
    return OpenAIError(dialect, REFUSED.get(dialect, 400), f"input[{place}]: cannot embed {text!r}")


def malformed(dialect: Dialect) -> OpenAIError:
    return OpenAIError(dialect, REFUSED.get(dialect, 400), "'$.input' is invalid. Please check the API reference.")


def too_many_texts(dialect: Dialect, texts: int, most: int) -> OpenAIError:
    if dialect is Dialect.TEI:
        return OpenAIError(dialect, 413, f"batch size {texts} > maximum allowed batch size {most}")
    return OpenAIError(dialect, REFUSED.get(dialect, 400), f"input: at most {most} inputs are allowed, not {texts}")


def too_many_tokens(dialect: Dialect, tokens: int, most: int) -> OpenAIError:
    sentence = f"Requested {tokens} tokens, max {most} tokens per request"
    return OpenAIError(dialect, 400, sentence, "max_tokens_per_request", "max_tokens_per_request")


def invalid_key(dialect: Dialect, key: str) -> OpenAIError:
    return OpenAIError(dialect, 401, f"Incorrect API key provided: {key}.", "invalid_api_key")


def unauthenticated(dialect: Dialect) -> OpenAIError:
    return OpenAIError(dialect, 401, "You didn't provide an API key.")


def forbidden(dialect: Dialect) -> OpenAIError:
    return OpenAIError(
        dialect, 403, "You have insufficient permissions for this operation. Missing scopes: model.request."
    )


def unsupported_place(dialect: Dialect) -> OpenAIError:
    sentence = "Country, region, or territory not supported"
    return OpenAIError(dialect, 403, sentence, "unsupported_country_region_territory", "request_forbidden")


def unknown_model(dialect: Dialect, model: str) -> OpenAIError:
    return OpenAIError(dialect, 404, f"The model `{model}` does not exist.", "model_not_found")


def throttled(dialect: Dialect, *, per: str, retry_after_s: float | None) -> OpenAIError:
    """Of OpenAI, with the pause in headers; other servers are overloaded, and name none."""
    if dialect is not Dialect.OPENAI or retry_after_s is None:
        return OpenAIError(dialect, 429, "Model is overloaded", kind="requests")
    headers = {"Retry-After": f"{retry_after_s:.0f}", "retry-after-ms": f"{retry_after_s * 1000:.0f}"}
    sentence = f"Rate limit reached for text-embedding-3-small in organization org-1 on {per}: Limit 3000, Used 3000."
    return OpenAIError(dialect, 429, sentence, "rate_limit_exceeded", per.split()[0], headers)


def out_of_money(dialect: Dialect) -> OpenAIError:
    sentence = "You exceeded your current quota, please check your plan and billing details."
    return OpenAIError(dialect, 429, sentence, "insufficient_quota", "insufficient_quota")


def internal(dialect: Dialect) -> OpenAIError:
    sentence = "The server had an error while processing your request."
    return OpenAIError(dialect, FAILED.get(dialect, 500), sentence, kind="server_error")


def unavailable(dialect: Dialect) -> OpenAIError:
    return OpenAIError(dialect, 503, "The engine is currently overloaded, please try again later", kind="server_error")
