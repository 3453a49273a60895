"""Makes and keeps the connections to all providers: what the sources with the same endpoint and credential share.

Used by the rotation of secrets, the set-up of sources and `embedding-operator check`. All sources of one account (provider,
endpoint and key) share one connection: a throttle and a circuit apply to all of them, and to no other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from embedding_worker.clock import Clock, SystemClock
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.accounts import Account, ApiKey, account_of, values_for
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.connection import Connection, connect
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.http_settings import usable_key
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


@dataclass(frozen=True)
class Credentials:
    """The values of the providers' settings, and the keys that sources name."""

    values: Values = field(default_factory=dict, repr=False)
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    """By their `ref`."""


async def embed_canary(model: Model, credentials: Credentials) -> Vector:
    """The vector of a canary, by one call to this model. Raises SourceRefused and ProviderError."""
    registry = ProviderRegistry(credentials, clock=SystemClock(), observer=NoObserver())
    embedder = registry.embedder(model, source="check")
    await embedder.prepare()
    (vector,) = await embedder.embed([CANARY])
    return vector


class ProviderRegistry:
    """The providers of this process, with the credentials in force."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        clock: Clock,
        observer: CallObserver,
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        self.clock = clock
        self.observer = observer
        self._credentials = credentials
        self._providers = registered_providers() if providers is None else providers
        self._connections: dict[Account, Connection] = {}
        self._pulse = Pulse()

    @property
    def keys(self) -> Mapping[str, ApiKey]:
        """The keys that sources name, with the values in force, by their `ref`."""
        return self._credentials.keys

    def embedder(self, model: Model, *, source: str) -> SourceEmbedder:
        """The embedder of a model for this source. It loads nothing and calls nothing yet.

        Raises SourceRefused where the provider is unknown or not installed, lacks a setting, or has no such model, and where the
        model's endpoint or key can't be used.
        """
        provider = known_provider(model.provider, self._providers)
        refuse_missing_settings(provider, self._values_for(self._account(model), self._credentials))
        return SourceEmbedder(
            lambda: self.connection(model),
            model,
            source=source,
            pulse=self._pulse,
            clock=self.clock,
            observer=self.observer,
        )

    def connection(self, model: Model) -> Connection:
        """The connection of a model with the credentials in force, one for all sources of its account. Raises SourceRefused."""
        account = self._account(model)
        if account not in self._connections:
            self._connections[account] = self._connect(account, self._credentials)
        return self._connections[account]

    async def rotate(self, setting: str, value: str) -> None:
        """Use this value from the next call on. Throttle and circuits of the old value end. Calls in flight still use it.

        Existing embedders use the new value too. Raises SourceRefused if the value can't be used; the old one then stays in
        force.
        """
        changed = {name for name, provider in self._providers.items() if provider.has_setting(setting)}
        if not changed:
            raise SourceRefused("SettingUnknown", f"{setting} is no setting of an installed provider")
        values = {**self._credentials.values, setting: value}
        for name in changed:
            self._providers[name].usable_values(values)
        self._replace(
            replace(self._credentials, values=values),
            {Account(name) for name in changed} & set(self._connections),
        )

    async def rotate_key(self, ref: str, value: str) -> None:
        """Use this value of the key that sources name `ref`, which may have been missing before. As `rotate` does."""
        key = replace(self._credentials.keys[ref], value=usable_key(value, setting=ref))
        self._replace(
            replace(self._credentials, keys={**self._credentials.keys, ref: key}),
            {account for account in self._connections if account.api_key_ref == ref},
        )

    def _replace(self, credentials: Credentials, changed: set[Account]) -> None:
        """Put these credentials in force, also for the connections that have changed. Raises SourceRefused, before it does."""
        connections = {account: self._connect(account, credentials) for account in changed}
        for account, connection in connections.items():
            for model in self._connections[account].models:
                connection.model(model)
            self._connections[account].retire()
        self._credentials = credentials
        self._connections |= connections

    def _account(self, model: Model) -> Account:
        return account_of(model, known_provider(model.provider, self._providers), self._credentials.values)

    def _values_for(self, account: Account, credentials: Credentials) -> dict[str, str]:
        return values_for(account, self._providers[account.provider], credentials.values, credentials.keys)

    def _connect(self, account: Account, credentials: Credentials) -> Connection:
        values = self._values_for(account, credentials)
        key = credentials.keys.get(account.api_key_ref)
        return connect(
            account, self._providers[account.provider], values, key=key, clock=self.clock, observer=self.observer
        )
