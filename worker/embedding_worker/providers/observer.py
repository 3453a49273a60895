"""What is informed of calls to providers and of circuits: the metrics of the operator, or nothing."""

from typing import Protocol

from embedding_worker.providers.circuit import CircuitState


class CallObserver(Protocol):
    """Records calls to providers and the states of circuits, for metrics."""

    def call_started(self, *, source: str, texts: int) -> None: ...

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        """`outcome` is Succeeded, Cancelled, or the name of the error's class."""
        ...

    def circuit_changed(self, *, circuit: str, state: CircuitState) -> None:
        """`circuit` is the name of the provider, or of the provider and a model."""
        ...


class NoObserver:
    """Records nothing."""

    def call_started(self, *, source: str, texts: int) -> None:
        return

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        return

    def circuit_changed(self, *, circuit: str, state: CircuitState) -> None:
        return
