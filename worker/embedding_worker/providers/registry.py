"""Makes and keeps the clients of all providers, with one throttle for each provider, and records their calls for the metrics.

Used by the rotation of secrets, the set-up of sources and `embedding-operator check`. A provider has one endpoint and one
credential at a time, so all its sources share one connection, and a throttle applies to all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderThrottled, SourceRefused
from embedding_worker.providers.embedder import Embedder, Vector
from embedding_worker.providers.provider import (
    Provider,
    Values,
    known_provider,
    refuse_missing_settings,
    registered_providers,
)
from embedding_worker.providers.throttle import LOOK_EVERY_S, Throttle
from embedding_worker.source import Model, TooLong


class CallObserver(Protocol):
    """Records calls to providers, for metrics."""

    def call_started(self, *, source: str, texts: int) -> None: ...

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        """`outcome` is Succeeded, Cancelled, or the name of the error's class."""
        ...


class NoObserver:
    """Records nothing."""

    def call_started(self, *, source: str, texts: int) -> None:
        return

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        return


@dataclass(eq=False)
class Connection:
    """What belongs to one provider with one endpoint and one credential."""

    provider: Provider
    endpoint: str
    """The server that is called; empty if the provider calls none."""
    values: Values = field(repr=False)
    throttle: Throttle
    clients: dict[Model, Embedder] = field(default_factory=dict, repr=False)

    def client(self, model: Model) -> Embedder:
        """The client of this model. There is one for each model, because a local one takes 150 MB. Raises SourceRefused."""
        key = replace(
            model, too_long=TooLong.TRUNCATE
        )  # texts have been cut before, so this setting changes nothing here
        if key not in self.clients:
            self.clients[key] = self.provider.make(key, self.values)
        return self.clients[key]


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

    def embedder(self, model: Model, *, source: str) -> "SourceEmbedder":
        """The embedder of a model for this source. It loads nothing and calls nothing yet.

        Raises SourceRefused where the provider is unknown or not installed, lacks a setting, or has no such model.
        """
        provider = known_provider(model.provider, self._providers)
        refuse_missing_settings(provider, self._values)
        return SourceEmbedder(self, model, self.connection(provider.name).client(model), source=source)

    def connection(self, name: str) -> Connection:
        """The connection of a provider with the values in force, one for all sources. Raises SourceRefused."""
        if name not in self._connections:
            self._connections[name] = self._connect(self._providers[name], self._values)
        return self._connections[name]

    async def rotate(self, setting: str, value: str) -> None:
        """Use this value from the next call on. A throttle of the old value ends. Calls in flight end with the old value.

        Existing embedders use the new value too. Raises SourceRefused if the value can't be used; the old one then stays in
        force.
        """
        values = self._values | {setting: value}
        changed = [provider for provider in self._providers.values() if provider.has_setting(setting)]
        if not changed:
            raise SourceRefused("SettingUnknown", f"{setting} is no setting of an installed provider")
        connections = {provider.name: self._connect(provider, values) for provider in changed}
        for name, connection in connections.items():
            for model in self._connections[name].clients if name in self._connections else ():
                connection.client(model)
        self._values = values
        self._connections |= connections

    def _connect(self, provider: Provider, values: Values) -> Connection:
        usable = provider.usable_values(values)
        return Connection(provider, provider.endpoint(usable), usable, Throttle(self.clock))


class SourceEmbedder:
    """An embedder whose calls wait for their provider's throttle, and are recorded as calls of one source."""

    def __init__(self, registry: ProviderRegistry, model: Model, client: Embedder, *, source: str) -> None:
        self.max_texts = client.max_texts
        self.max_text_bytes = client.max_text_bytes
        self._registry = registry
        self._model = model
        self._source = source

    @property
    def throttled_by(self) -> ProviderThrottled | None:
        """See SharedEmbedder.throttled_by."""
        return self._connection.throttle.reason

    @property
    def _connection(self) -> Connection:
        return self._registry.connection(self._model.provider)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See Embedder.embed. Waits first until the throttle is over."""
        clock = self._registry.clock
        while remaining_s := self._connection.throttle.remaining_s():
            await clock.sleep(min(remaining_s, LOOK_EVERY_S))
        connection = self._connection
        try:
            return await self._measured_call(connection.client(self._model), texts)
        except ProviderThrottled as exc:
            connection.throttle.pause(exc)
            raise

    async def _measured_call(self, client: Embedder, texts: Sequence[str]) -> list[Vector]:
        clock, observer = self._registry.clock, self._registry.observer
        observer.call_started(source=self._source, texts=len(texts))
        started, outcome = clock.monotonic(), "Cancelled"
        try:
            vectors = await client.embed(texts)
            outcome = "Succeeded"
        except Exception as exc:
            outcome = type(exc).__name__
            raise
        else:
            return vectors
        finally:
            observer.call_finished(source=self._source, outcome=outcome, seconds=clock.monotonic() - started)
