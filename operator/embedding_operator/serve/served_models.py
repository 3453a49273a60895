"""Finds the model that embeds the search texts of a source, and keeps an embedder for each source.

Asked by search_embedder.py for each request, and by upkeep.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from embedding_operator.lifecycle.model_in_force import model_on_record
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.serve.messages import MOST_TEXTS
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.call_size import CallSize
from embedding_worker.providers.provider import Provider, query_model
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.providers.source_embedder import SourceEmbedder
from embedding_worker.source import Model


@dataclass(frozen=True)
class ServedModel:
    """What embeds the search texts of a source."""

    source: str
    model: Model
    """With the settings of search texts."""
    embedder: SourceEmbedder
    in_this_process: bool
    """Whether a call goes to no server."""
    size: CallSize = field(compare=False)
    """How many texts the server accepts in a call, as far as it is known."""


class ServedModels:
    def __init__(self, registry: ProviderRegistry, providers: Mapping[str, Provider]) -> None:
        self._registry = registry
        self._providers = providers
        self._served: dict[str, ServedModel] = {}

    def of(self, source: EmbeddingSource) -> ServedModel:
        """Raises SourceRefused where the provider or a setting of it cannot be used, or the source was not set up yet."""
        in_force = model_on_record(source.status, source.spec.model.too_long)
        if in_force is None:
            raise SourceRefused(
                "NotSetUp",
                f"the operator has not set up EmbeddingSource {source.name} yet: ask again when its condition Ready is True",
            )
        model = query_model(in_force, self._providers)
        known = self._served.get(source.name)
        if known is None or known.model != model:
            embedder = self._registry.embedder(model, source=source.name)
            in_this_process = not self._providers[model.provider].calls_server
            size = CallSize(min(embedder.max_texts, MOST_TEXTS))
            known = self._served[source.name] = ServedModel(source.name, model, embedder, in_this_process, size)
        return known

    def usable(self, sources: Iterable[EmbeddingSource]) -> list[ServedModel]:
        """The models of these sources that can be used. Those of other sources are forgotten."""
        found: list[ServedModel] = []
        names: set[str] = set()
        for source in sources:
            names.add(source.name)
            try:
                found.append(self.of(source))
            except SourceRefused:  # who asks for it gets the reason
                self._served.pop(source.name, None)
        self._served = {name: served for name, served in self._served.items() if name in names}
        return found
