"""What belongs to one endpoint and credential of a provider, and to each model of it. Made and replaced by the registry.

All sources with the same endpoint and credential share it: throttle, circuits, evidence and clients.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from embedding_worker.clock import Clock
from embedding_worker.providers.attribution import Evidence
from embedding_worker.providers.breaker import Breaker
from embedding_worker.providers.embedder import Embedder
from embedding_worker.providers.observer import CallObserver
from embedding_worker.providers.provider import Provider, Values
from embedding_worker.providers.rate_limits import rate_limits
from embedding_worker.providers.throttle import Throttle
from embedding_worker.rows.records import RateLimits
from embedding_worker.source import Model, TooLong


@dataclass(eq=False)
class SharedModel:
    """A model's client, and what is known of it."""

    client: Embedder
    breaker: Breaker
    """Opens for an error of the model, such as that it is unknown. Other models of the connection are not affected."""
    evidence: Evidence


@dataclass(eq=False)
class Connection:
    """What belongs to one provider with one endpoint and one credential."""

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
        # Texts have been cut before, so this setting changes nothing here.
        key = model if model.too_long is TooLong.TRUNCATE else replace(model, too_long=TooLong.TRUNCATE)
        if key not in self.models:
            client = self.provider.make(key, self.values)
            name = f"{self.provider.name} {model.fingerprint}"
            self.models[key] = SharedModel(client, self.make_breaker(name), Evidence())
        return self.models[key]


def connect(provider: Provider, values: Values, *, clock: Clock, observer: CallObserver) -> Connection:
    """A connection that has made no call yet. Raises SourceRefused if a value can't be used."""
    usable = provider.usable_values(values)

    limits = rate_limits(provider, values)
    observer.limits_set(provider=provider.name, limits=limits)

    def make_breaker(name: str) -> Breaker:
        return Breaker(name, clock=clock, observer=observer)

    return Connection(
        provider,
        provider.endpoint(usable),
        usable,
        provider.credential_key(values),
        limits,
        Throttle(clock),
        make_breaker(provider.name),
        make_breaker,
    )
