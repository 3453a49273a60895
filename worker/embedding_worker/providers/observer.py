"""What is informed of calls to providers and of circuits: the metrics of the operator, or nothing."""

from datetime import datetime
from typing import Protocol

from embedding_worker.providers.circuit import CircuitState
from embedding_worker.rows.records import RateLimits


class CallObserver(Protocol):
    """Records calls to providers and the states of circuits, for metrics."""

    def call_started(self, *, source: str, provider: str, texts: int, tokens: int) -> None:
        """A call with so many texts, of so many tokens as is estimated, is about to be sent."""
        ...

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        """`outcome` is Succeeded, Cancelled, or the name of the error's class."""
        ...

    def circuit_changed(self, *, circuit: str, state: CircuitState) -> None:
        """`circuit` is the name of the provider, or of the provider and a model."""
        ...

    def limits_set(self, *, provider: str, limits: RateLimits) -> None:
        """The rate limits of the provider, from its settings."""
        ...

    def throttled(self, *, provider: str, until: datetime) -> None:
        """The provider has asked for a pause until then, or a person has ended one."""
        ...


class NoObserver:
    """Records nothing."""

    def call_started(self, *, source: str, provider: str, texts: int, tokens: int) -> None:
        return

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        return

    def circuit_changed(self, *, circuit: str, state: CircuitState) -> None:
        return

    def limits_set(self, *, provider: str, limits: RateLimits) -> None:
        return

    def throttled(self, *, provider: str, until: datetime) -> None:
        return
