"""The requests and answers of `POST /v1/embeddings` and `GET /v1/models`, in the form of OpenAI's API. Pure.

Called by http_server.py, and RequestRefused is raised by what it calls.

A message never quotes a text: what people search for is personal.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedding_operator.serve.packed_vectors import PackedVector, unpack
from embedding_worker.text import is_blank

MOST_TEXTS = 32
MOST_BODY_BYTES = 1_048_576
FORMATS = ("float", "base64")


class RequestRefused(Exception):
    """The answer to a request that gets no vectors: a status of HTTP, a sentence, and a code for programs."""

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def type(self) -> str:
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def as_json(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def invalid(message: str, *, param: str | None = None) -> RequestRefused:
    """The request is wrong, and the same request would be refused again."""
    return RequestRefused(400, message, code="invalid_value", param=param)


@dataclass(frozen=True)
class EmbeddingsRequest:
    model: str
    """The name of a source."""
    texts: tuple[str, ...] = field(repr=False)
    encoding: str = "float"
    dimensions: int | None = None
    """What the client expects."""


def parse_request(body: bytes) -> EmbeddingsRequest:
    """Raises RequestRefused, with the name of the field that is wrong."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("the body is no JSON: send an object with `model` and `input`") from None
    if not isinstance(given, dict):
        raise invalid("the body is no JSON object: send one with `model` and `input`")
    model, encoding, dimensions = given.get("model"), given.get("encoding_format") or "float", given.get("dimensions")
    if not isinstance(model, str) or not model:
        raise invalid("model is missing: set it to the name of an EmbeddingSource", param="model")
    if encoding not in FORMATS:
        raise invalid("encoding_format is neither float nor base64: set one of the two", param="encoding_format")
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
        raise invalid("dimensions is no whole number: leave it out", param="dimensions")
    return EmbeddingsRequest(model, _texts(given.get("input")), encoding, dimensions)


def _texts(given: Any) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise invalid("input is neither a text nor a list of texts: tokens are not accepted", param="input")
    if len(texts) > MOST_TEXTS:
        raise invalid(f"input has {len(texts)} texts: send at most {MOST_TEXTS} in a request", param="input")
    for number, text in enumerate(texts):
        if is_blank(text):
            raise invalid(f"input[{number}] is blank: send a text that is not", param="input")
        if not _is_unicode(text):
            raise invalid(f"input[{number}] has half of a surrogate pair: send whole characters", param="input")
    return tuple(texts)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def embeddings(asked: EmbeddingsRequest, vectors: Sequence[PackedVector], *, tokens: int) -> Iterator[bytes]:
    """The answer with one vector for each text, in order, in parts of one vector each: as a whole it is megabytes.

    `tokens` is an estimate.
    """
    encode = _as_base64 if asked.encoding == "base64" else unpack
    yield b'{"object": "list", "data": ['
    for index, vector in enumerate(vectors):
        item = json.dumps({"object": "embedding", "index": index, "embedding": encode(vector)})
        yield f"{', ' if index else ''}{item}".encode()
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield f'], "model": {json.dumps(asked.model)}, "usage": {json.dumps(usage)}}}'.encode()


def _as_base64(vector: PackedVector) -> str:
    return base64.b64encode(vector).decode()


@dataclass(frozen=True)
class ListedModel:
    """A source, as a client sees it: a model."""

    name: str
    created: int
    """In Unix time."""
    provider: str

    def as_json(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": self.provider}


def models(listed: Iterable[ListedModel]) -> dict[str, Any]:
    return {"object": "list", "data": [each.as_json() for each in listed]}
