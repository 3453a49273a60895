"""Reads the vectors of an answer of Google's Gemini API, from its bytes. Pure; called by the modules that use Google's SDKs.

The SDKs would make an object of each vector, and parse or copy it float by float, which takes ten times as long.
"""

from collections.abc import Mapping

from pydantic_core import from_json

from embedding_worker.errors import AnswerUnusable
from embedding_worker.providers.embedder import CountedVectors, Vector, at_unit_length, check_vectors, numbers


def vectors_in(content: bytes, *, provider: str, texts: int, dimensions: int) -> list[Vector]:
    """The vectors of an answer at unit length, with their tokens if it has them. Raises AnswerUnusable."""
    try:
        answer = from_json(content)
    except ValueError:
        raise AnswerUnusable(f"the provider {provider!r} answered no JSON") from None
    found = answer.get("embeddings") if isinstance(answer, Mapping) else None
    if not isinstance(found, list):
        raise AnswerUnusable(f"the provider {provider!r} answered without vectors")
    # They come at unit length for 3072 dimensions only.
    values = [numbers(item.get("values") if isinstance(item, Mapping) else None) for item in found]
    vectors = at_unit_length(check_vectors(values, texts=texts, dimensions=dimensions))
    usage = answer.get("usageMetadata")
    tokens = usage.get("promptTokenCount") if isinstance(usage, Mapping) else None
    return CountedVectors(vectors, tokens=tokens) if isinstance(tokens, int) and tokens > 0 else vectors
