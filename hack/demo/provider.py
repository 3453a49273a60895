"""The source of the demo's story: with the local model, or with Google's if it is chosen and there is a key.

Called by the demo's command. The story is the same for both.
"""

from dataclasses import dataclass, field
from pathlib import Path

from hack.errors import WrongSetting
from hack.processes import environment
from hack.repository import EXAMPLES


@dataclass(frozen=True)
class Provider:
    source: str
    """The name of the EmbeddingSource of the story's rows."""
    example: Path
    column: str
    settings: dict[str, str] = field(default_factory=dict, repr=False)
    """The operator's settings for it."""


def local() -> Provider:
    return Provider("businesses", EXAMPLES / "businesses.yaml", "embedding")


def gemini(endpoint: str | None) -> Provider:
    """Google's API, by GEMINI_API_KEY, or another server that answers as it does. Raises WrongSetting without a key."""
    key = environment.gemini_api_key()
    if key is None:
        raise WrongSetting("PROVIDER=gemini needs GEMINI_API_KEY: set it, or leave PROVIDER out for the local model")
    settings = {"GEMINI_API_KEY": key} | ({"EMBEDDING_GEMINI_ENDPOINT": endpoint} if endpoint else {})
    return Provider("businesses-gemini", EXAMPLES / "businesses-gemini.yaml", "embedding_gemini", settings)
