"""The requests of the Gemini API's embedding methods, as JSON, and which of them it refuses. Called by the fake server."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from hack.provider_server.answers import ErrorBody, invalid, refused_text, unknown_model

MODEL = "gemini-embedding-001"
DIMENSIONS = 3072
MOST_TEXTS = 100
POISON = "POISON"
"""A text that contains this is refused, and its batch with it."""
# The SDK sends enums as numbers, other clients as names. Google's JSON accepts both.
TASK_TYPES = (
    "TASK_TYPE_UNSPECIFIED",
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Part(_Message):
    text: str = ""


class Content(_Message):
    parts: list[Part] = Field(default_factory=list)
    role: str = ""


class EmbedContentRequest(_Message):
    content: Content
    model: str = ""
    task_type: int | str = 0
    title: str | None = None
    output_dimensionality: int = DIMENSIONS

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content.parts)

    @property
    def task(self) -> str:
        """The name of the task type; empty for an unknown one."""
        if isinstance(self.task_type, str):
            return self.task_type
        return TASK_TYPES[self.task_type] if self.task_type < len(TASK_TYPES) else ""


class BatchEmbedContentsRequest(_Message):
    requests: list[EmbedContentRequest]
    model: str = ""


def requests_in(body: Any, *, batch: bool) -> list[EmbedContentRequest] | ErrorBody:
    try:
        return (
            BatchEmbedContentsRequest.model_validate(body).requests
            if batch
            else [EmbedContentRequest.model_validate(body)]
        )
    except ValidationError as exc:
        fields = (".".join(str(part) for part in error["loc"]) for error in exc.errors())
        return ErrorBody(400, "INVALID_ARGUMENT", f"Invalid JSON payload received: {', '.join(fields)}")


def refusal(requests: list[EmbedContentRequest], *, model: str, batch: bool) -> ErrorBody | None:
    """The error with which the API refuses these requests; None: it embeds them."""
    if model != MODEL:
        return unknown_model(model, "embedContent")
    if not requests:
        return invalid("BatchEmbedContentsRequest.requests: requests must not be empty")
    if len(requests) > MOST_TEXTS:
        return invalid(f"BatchEmbedContentsRequest.requests: at most {MOST_TEXTS} requests can be in one batch")
    wrong = [sentence for n, request in enumerate(requests) for sentence in _wrong(request, n, model, batch=batch)]
    if wrong:
        return invalid(*wrong)
    for n, request in enumerate(requests):
        if POISON in request.text:
            return refused_text(n, request.text)
    return None


def _wrong(request: EmbedContentRequest, n: int, model: str, *, batch: bool) -> list[str]:
    at = f"BatchEmbedContentsRequest.requests[{n}]" if batch else "EmbedContentRequest"
    wrong: list[str] = []
    if request.model != f"models/{model}" and (batch or request.model):
        wrong.append(f"{at}.model: must match the batch's")
    if not request.text:
        wrong.append(f"{at}.content contains an empty Part.")
    if not 1 <= request.output_dimensionality <= DIMENSIONS:
        wrong.append(f"{at}.output_dimensionality: must be in 1 to {DIMENSIONS}")
    if request.task_type not in (*TASK_TYPES, *range(len(TASK_TYPES))):
        wrong.append(f"{at}.task_type: unknown value")
    return wrong
