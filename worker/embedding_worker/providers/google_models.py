"""The embedding model of Google's Gemini API: its names, tasks and limits, and the settings of every provider that calls it.

Pure; called by the modules that use one of Google's SDKs. Because the settings are the same, sources that change from one SDK to
the other keep their key, their endpoint, their rate limits and their vectors.
"""

from functools import partial

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.http_settings import usable_endpoint, usable_key
from embedding_worker.providers.provider import SOURCE_ENDPOINT, ProviderSetting, Values
from embedding_worker.providers.rate_limits import rate_limit_settings
from embedding_worker.source import Model

KEY_SETTING = "GEMINI_API_KEY"
ENDPOINT_SETTING = "EMBEDDING_GEMINI_ENDPOINT"
LIMITS_NAME = "Gemini"
"""The name in the variables of the rate limits."""
ENDPOINT = "https://generativelanguage.googleapis.com"
MODEL_NAME = "gemini-embedding-001"
MOST_DIMENSIONS = 3072
MOST_TEXTS = 100
"""Of batchEmbedContents: with more it answers "at most 100 requests can be in one batch"."""
MOST_TEXT_BYTES = 6_000
"""The model accepts 2,048 tokens (ai.google.dev, gemini-embedding-001) and silently ignores the others; at three bytes of UTF-8 a
token, which is on the safe side for most languages, that is a little over 6,000 bytes. A call of so many such texts stays under
the 4 MiB of which the API says "Request payload size exceeds the limit": it needs no limit of the bytes of a call."""
TASK_TYPE = "RETRIEVAL_DOCUMENT"
QUERY_TASK_TYPE = "RETRIEVAL_QUERY"
# The older SDK's own enum; a newer name would be refused by it at each call.
TASK_TYPES = {TASK_TYPE, QUERY_TASK_TYPE, "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING"} | {
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
}
TIMEOUT_S = 15.0

SETTINGS = (
    ProviderSetting(
        KEY_SETTING,
        "a key of the Gemini API",
        secret=True,
        required=True,
        usable=partial(usable_key, setting=KEY_SETTING),
    ),
    ProviderSetting(ENDPOINT_SETTING, "the address of another server that answers as Google's does"),
    *rate_limit_settings(LIMITS_NAME),
)


def known_model(model: Model) -> str:
    """The model's name as the API has it. Raises SourceRefused."""
    name = model.name.removeprefix("models/")
    if name.startswith("gemini-embedding-2"):
        raise SourceRefused(
            "ModelUnknown",
            f"spec.model.name is {model.name!r}, which needs its task written into each text, and this version does not "
            f"write it: set {MODEL_NAME!r}",
        )
    if name != MODEL_NAME:
        raise SourceRefused(
            "ModelUnknown", f"spec.model.name is {model.name!r}: the provider {model.provider!r} has {MODEL_NAME!r}"
        )
    if not 1 <= model.dimensions <= MOST_DIMENSIONS:
        raise SourceRefused(
            "WrongDimensions",
            f"spec.model.dimensions is {model.dimensions}: {MODEL_NAME} gives 1 to {MOST_DIMENSIONS}, best 768, 1536 or 3072",
        )
    return f"models/{name}"


def known_task_type(model: Model) -> str:
    """The task type of the model's texts. Raises SourceRefused."""
    task_type = model.task_type or TASK_TYPE
    if task_type not in TASK_TYPES:
        raise SourceRefused(
            "TaskTypeUnknown",
            f"spec.model.taskType is {task_type!r}: the provider {model.provider!r} has {', '.join(sorted(TASK_TYPES))}",
        )
    return task_type


def query_task_type(model: Model) -> str:
    """Documents are found by queries; the other tasks treat both texts alike."""
    return QUERY_TASK_TYPE if known_task_type(model) == TASK_TYPE else known_task_type(model)


def endpoint_of(values: Values) -> str:
    """The server that these values name. Raises SourceRefused."""
    given = values.get(SOURCE_ENDPOINT) or values.get(ENDPOINT_SETTING)
    return usable_endpoint(given, setting=ENDPOINT_SETTING, default=ENDPOINT)
