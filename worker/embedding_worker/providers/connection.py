"""What belongs to one account (provider, endpoint and key), and to each model of it. Made and replaced by the registry.

All sources of the account share it: throttle, circuits, evidence and clients.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from embedding_worker.clock import Clock
from embedding_worker.providers.accounts import Account, ApiKey
from embedding_worker.providers.attribution import Evidence
from embedding_worker.providers.breaker import Breaker
from embedding_worker.providers.embedder import Embedder
from embedding_worker.providers.observer import CallObserver
from embedding_worker.providers.provider import Provider, Values
from embedding_worker.providers.rate_limits import rate_limits
from embedding_worker.providers.sdk import make_ready
from embedding_worker.providers.throttle import Throttle
from embedding_worker.rows.records import RateLimits
from embedding_worker.source import Model


@dataclass(eq=False)
class SharedModel:
    """A model's client, and what is known of it."""

    client: Embedder
    breaker: Breaker
    """Opens for an error of the model, such as that it is unknown. Other models of the connection are not affected."""
    evidence: Evidence
    failed_call: str = ""
    """How the last call for rows failed, until one succeeds: it may be why a canary then gets no answer."""


@dataclass(eq=False)
class Connection:
    """What belongs to one account."""

    account: Account
    provider: Provider
    endpoint: str
    """The server that is called; empty if the provider calls none."""
    values: Values = field(repr=False)
    key: str
    """What endpoint and credential are known by in the database, where neither is stored."""
    limits: RateLimits
    throttle: Throttle
    breaker: Breaker
    make_breaker: Callable[[str], Breaker]
    models: dict[Model, SharedModel] = field(default_factory=dict, repr=False)

    def retire(self) -> None:
        """Another endpoint or credential takes its place. Calls in flight end, and change nothing that is shown."""
        for breaker in (self.breaker, *(shared.breaker for shared in self.models.values())):
            breaker.retire()

    def model(self, model: Model) -> SharedModel:
        """What belongs to this model. There is one client for each, because a local one takes 150 MB. Raises SourceRefused."""
        key = model.as_called
        if key not in self.models:
            client = self.provider.make(key, self.values)
            name = f"{self.account.name} {model.fingerprint}"
            self.models[key] = SharedModel(client, self.make_breaker(name), Evidence())
        return self.models[key]

    async def prepare(self, model: Model) -> None:
        """Import the SDK, and have the model's client do what only its first call needs. Raises SourceRefused."""
        await make_ready(self.provider, self.model(model).client)


def connect(
    account: Account, provider: Provider, values: Values, *, key: ApiKey | None, clock: Clock, observer: CallObserver
) -> Connection:
    """A connection that has made no call yet. `key` is the mounted one that the account uses.

    Raises SourceRefused if a value can't be used.
    """
    usable = provider.usable_values(values)
    limits = limits_of(account, provider, values, key)
    observer.limits_set(provider=account.name, limits=limits)

    def make_breaker(name: str) -> Breaker:
        return Breaker(name, clock=clock, observer=observer)

    return Connection(
        account,
        provider,
        provider.endpoint(usable),
        usable,
        provider.credential_key(values),
        limits,
        Throttle(clock),
        make_breaker(account.name),
        make_breaker,
    )


def limits_of(account: Account, provider: Provider, values: Values, key: ApiKey | None) -> RateLimits:
    """Those of the settings are for the endpoint and key of the settings. Raises SourceRefused."""
    if key is not None:
        return key.limits
    return RateLimits() if account.endpoint else rate_limits(provider, values)
