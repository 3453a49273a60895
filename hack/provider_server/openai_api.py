"""`/v1/embeddings` of OpenAI, and of the servers that speak its API, each under a path of its own, for the fake server."""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hack.provider_server import openai_answers as answers
from hack.provider_server.calls import Call, Values
from hack.provider_server.faults import Fault, FaultKind
from hack.provider_server.openai_answers import Dialect, OpenAIError
from hack.provider_server.requests import POISON

MODELS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
"""OpenAI's own, with their dimensions."""
SERVED_MODEL = "intfloat/multilingual-e5-small"
SERVED_DIMENSIONS = 384
SERVED = {SERVED_MODEL: SERVED_DIMENSIONS, "sentence-transformers/distiluse-base-multilingual-cased-v2": 512}
"""Those of the other servers."""
SHORTENED = "text-embedding-3-"
"""The models that can give fewer dimensions."""
MOST_TOKENS = 300_000
BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Limits:
    """What a server takes unless it was started with other settings. Zero: any number of texts."""

    texts: int
    needs_key: bool = False
    knows_base64: bool = True
    checks_model: bool = True


LIMITS = {
    Dialect.OPENAI: Limits(2_048, needs_key=True),
    Dialect.TEI: Limits(32, checks_model=False),  # --max-client-batch-size; it ignores the model's name
    Dialect.INFINITY: Limits(2_048),
    Dialect.VLLM: Limits(0),
    Dialect.OLLAMA: Limits(0, knows_base64=False),  # newer versions do
}


class EmbeddingsRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    input: list[str] = Field(min_length=1)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    @property
    def size(self) -> int:
        return self.dimensions or (MODELS | SERVED).get(self.model, SERVED_DIMENSIONS)

    @property
    def tokens(self) -> int:
        return sum(tokens_of(text) for text in self.input)


def tokens_of(text: str) -> int:
    return len(text.encode()) // BYTES_PER_TOKEN + 1


class OpenAIApi:
    """See calls.Api. Without a path of its own, a server is OpenAI's."""

    def __init__(self, api_key: str, dialect: Dialect) -> None:
        self.paths = (f"/{dialect}/v1/embeddings",) + (("/v1/embeddings",) if dialect is Dialect.OPENAI else ())
        self._api_key = api_key
        self._dialect = dialect
        self._limits = LIMITS[dialect]

    def read(self, request: web.Request, body: Any) -> Call:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            found = EmbeddingsRequest.model_validate(body)
        except ValidationError:
            return Call(key, "", malformed=answers.malformed(self._dialect))
        return Call(key, found.model, found.input, [found.size] * len(found.input), details=found)

    def fault(self, fault: Fault, call: Call) -> OpenAIError | None:
        dialect = self._dialect
        match fault.kind:
            case FaultKind.REFUSED_TEXT:
                place = next((n for n, text in enumerate(call.texts) if (fault.only_matching or "") in text), 0)
                return answers.refused_text(dialect, place, call.texts[place] if call.texts else "")
            case FaultKind.INVALID_KEY:
                return answers.invalid_key(dialect, call.key)
            case FaultKind.UNKNOWN_MODEL:
                return answers.unknown_model(dialect, call.model)
            case FaultKind.THROTTLED | FaultKind.THROTTLED_TOKENS | FaultKind.DAY_QUOTA | FaultKind.THROTTLED_PLAIN:
                return self._throttled(fault)
            case kind if kind in PLAIN_FAULTS:
                return PLAIN_FAULTS[kind](dialect)
            case _:
                return None

    def _throttled(self, fault: Fault) -> OpenAIError:
        pause_s = None if fault.kind is FaultKind.THROTTLED_PLAIN else fault.seconds
        return answers.throttled(self._dialect, per=QUOTA_OF.get(fault.kind, ""), retry_after_s=pause_s)

    def refusal(self, call: Call) -> OpenAIError | None:
        return self._wrong_key(call.key) or self._wrong_model(call.details) or self._wrong_input(call.details)

    def _wrong_key(self, key: str) -> OpenAIError | None:
        if not key and self._limits.needs_key:
            return answers.unauthenticated(self._dialect)
        return answers.invalid_key(self._dialect, key) if key not in ("", self._api_key) else None

    def _wrong_model(self, asked: EmbeddingsRequest) -> OpenAIError | None:
        if self._limits.checks_model and asked.model not in (MODELS if self._dialect is Dialect.OPENAI else SERVED):
            return answers.unknown_model(self._dialect, asked.model)
        most = MODELS.get(asked.model, SERVED_DIMENSIONS)
        if asked.dimensions is not None and (not asked.model.startswith(SHORTENED) or asked.dimensions > most):
            return answers.malformed(self._dialect)
        return None

    def _wrong_input(self, asked: EmbeddingsRequest) -> OpenAIError | None:
        most = self._limits.texts
        if most and len(asked.input) > most:
            return answers.too_many_texts(self._dialect, len(asked.input), most)
        if self._dialect is Dialect.OPENAI and asked.tokens > MOST_TOKENS:
            return answers.too_many_tokens(self._dialect, asked.tokens, MOST_TOKENS)
        if not all(asked.input):
            return answers.malformed(self._dialect)
        poison = next((place for place, text in enumerate(asked.input) if POISON in text), None)
        return None if poison is None else answers.refused_text(self._dialect, poison, asked.input[poison])

    def answer(self, call: Call, vectors: Sequence[Values], kind: FaultKind | None) -> Any:
        asked: EmbeddingsRequest = call.details
        as_text = asked.encoding_format == "base64" and self._limits.knows_base64 and kind is not FaultKind.NUMBERS
        data = [
            {"object": "embedding", "index": index, "embedding": in_base64(values) if as_text else as_numbers(values)}
            for index, values in enumerate(vectors)
        ]
        usage = {"prompt_tokens": asked.tokens, "total_tokens": asked.tokens}
        ordered = data[::-1] if kind is FaultKind.SHUFFLED else data
        return {"object": "list", "data": ordered, "model": asked.model, "usage": usage}


QUOTA_OF = {
    FaultKind.THROTTLED: "requests per min (RPM)",
    FaultKind.THROTTLED_TOKENS: "tokens per min (TPM)",
    FaultKind.DAY_QUOTA: "requests per day (RPD)",
}
PLAIN_FAULTS = {
    FaultKind.FAILED_PRECONDITION: answers.unsupported_place,
    FaultKind.UNAUTHENTICATED: answers.unauthenticated,
    FaultKind.FORBIDDEN: answers.forbidden,
    FaultKind.SPEND_QUOTA: answers.out_of_money,
    FaultKind.INTERNAL: answers.internal,
    FaultKind.UNAVAILABLE: answers.unavailable,
}


def as_numbers(values: Values) -> Any:
    """NaN and Infinity as numbers, as Python's JSON writes them."""
    return None if values is None else [float(value) if isinstance(value, str) else value for value in values]


def in_base64(values: Values) -> str | None:
    """Floats of 32 bits, little-endian. What is no number stays no text either."""
    if values is None or None in values:
        return None
    return base64.b64encode(struct.pack(f"<{len(values)}f", *(float(value or 0) for value in values))).decode()
