"""Makes and keeps the connections to all providers: what the sources with the same endpoint and credential share.

Used by the rotation of secrets, the set-up of sources and `embedding-operator check`. A provider has one endpoint and one
credential at a time, so all its sources share one connection; a throttle and a circuit apply to all of them.
"""

from collections.abc import Mapping

from embedding_worker.clock import Clock, SystemClock
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.connection import Connection, connect
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.observer import CallObserver, NoObserver
from embedding_worker.providers.provider import (
    Provider,
    Values,
    known_provider,
    refuse_missing_settings,
    registered_providers,
)
from embedding_worker.providers.pulse import Pulse
from embedding_worker.providers.source_embedder import SourceEmbedder
from embedding_worker.source import Model


async def embed_canary(model: Model, values: Values) -> Vector:
    """The vector of a canary, by one call to this model. Raises SourceRefused and ProviderError."""
    registry = ProviderRegistry(values, clock=SystemClock(), observer=NoObserver())
    (vector,) = await registry.embedder(model, source="check").embed([CANARY])
    return vector


class ProviderRegistry:
    """The providers of this process, with the values of their settings in force."""

    def __init__(
        self,
        values: Values,
        *,
        clock: Clock,
        observer: CallObserver,
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        self.clock = clock
        self.observer = observer
        self._values = dict(values)
        self._providers = registered_providers() if providers is None else providers
        self._connections: dict[str, Connection] = {}
        self._pulse = Pulse()

    def embedder(self, model: Model, *, source: str) -> SourceEmbedder:
        """The embedder of a model for this source. It loads nothing and calls nothing yet.

        Raises SourceRefused where the provider is unknown or not installed, lacks a setting, or has no such model.
        """
        provider = known_provider(model.provider, self._providers)
        refuse_missing_settings(provider, self._values)
        return SourceEmbedder(
            lambda: self.connection(provider.name),
            model,
            source=source,
            pulse=self._pulse,
            clock=self.clock,
            observer=self.observer,
        )

    def connection(self, name: str) -> Connection:
        """The connection of a provider with the values in force, one for all sources. Raises SourceRefused."""
        if name not in self._connections:
            self._connections[name] = self._connect(self._providers[name], self._values)
        return self._connections[name]

    async def rotate(self, setting: str, value: str) -> None:
        """Use this value from the next call on. Throttle and circuits of the old value end. Calls in flight still use it.

        Existing embedders use the new value too. Raises SourceRefused if the value can't be used; the old one then stays in
        force.
        """
        values = self._values | {setting: value}
        changed = [provider for provider in self._providers.values() if provider.has_setting(setting)]
        if not changed:
            raise SourceRefused("SettingUnknown", f"{setting} is no setting of an installed provider")
        connections = {provider.name: self._connect(provider, values) for provider in changed}
        for name, connection in connections.items():
            for model in self._connections[name].models if name in self._connections else ():
                connection.model(model)
            if name in self._connections:
                self._connections[name].retire()
        self._values = values
        self._connections |= connections

    def _connect(self, provider: Provider, values: Values) -> Connection:
        return connect(provider, values, clock=self.clock, observer=self.observer)
