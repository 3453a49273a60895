"""The Prometheus metrics of `embedding-operator serve`. Labels are bounded: a source's name, an outcome; never a text.

Recorded by http_server.py, search_embedder.py and the provider registry, whose CallObserver it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from embedding_operator.metrics import SECONDS, Described
from embedding_worker.providers.circuit import CircuitState
from embedding_worker.providers.observer import NoObserver

PREFIX = "embedding_operator_serve"


class TextOrigin(StrEnum):
    """Where the vector of a text came from."""

    CACHE = "cache"
    SHARED_CALL = "shared call"
    CALL = "call"


class ServeMetrics(NoObserver):
    """One registry for each process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.described: list[Described] = []
        ProcessCollector(registry=self._registry)
        self._requests = self._counter("requests", "Requests for vectors, by the outcome", "source", "outcome")
        self._seconds = self._histogram("request_seconds", "Time until a request was answered", "source")
        self._texts = self._counter(
            "texts",
            "Search texts by the origin of their vector: cache, shared call (of another request), call",
            "source",
            "origin",
        )
        self._in_flight = self._gauge("requests_in_flight", "Requests for vectors that are being answered")
        self._calls = self._histogram("call_seconds", "Duration of a call to a model", "source", "outcome")
        self._circuit = self._gauge(
            "circuit_open", "1 while this process makes no call to a provider, or with a model", "circuit"
        )

    def _describe(self, name: str, kind: str, description: str, labels: tuple[str, ...]) -> str:
        full = f"{PREFIX}_{name}"
        self.described.append(Described(f"{full}_total" if kind == "counter" else full, kind, description, labels))
        return full

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(
            self._describe(name, "counter", description, labels), description, labels, registry=self._registry
        )

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        return Gauge(self._describe(name, "gauge", description, labels), description, labels, registry=self._registry)

    def _histogram(self, name: str, description: str, *labels: str) -> Histogram:
        full = self._describe(name, "histogram", description, labels)
        return Histogram(full, description, labels, buckets=SECONDS, registry=self._registry)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A request is being answered."""
        with self._in_flight.track_inprogress():
            yield

    def record_answer(self, source: str, *, outcome: str, seconds: float) -> None:
        """`source` is empty if the request names none that exists. `outcome` is `ok`, or the code of the refusal."""
        self._requests.labels(source, outcome).inc()
        self._seconds.labels(source).observe(seconds)

    def record_texts(self, source: str, origin: TextOrigin, number: int) -> None:
        if number:
            self._texts.labels(source, origin.value).inc(number)

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        self._calls.labels(source, outcome).observe(seconds)

    def circuit_changed(self, *, circuit: str, state: CircuitState) -> None:
        self._circuit.labels(circuit).set(state is not CircuitState.CLOSED)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
