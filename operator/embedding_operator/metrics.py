"""What Prometheus is told: instruments by its conventions, and the places that move them. Served by health.py."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from embedding_worker.rows.store import Counts

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 5, 10, 25, 50, 100, 250)


class Metrics:
    """One registry for each process; every name begins with embedding_operator_."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def named(name: str) -> str:
            return f"embedding_operator_{name}"

        self._jobs = Counter(
            named("jobs_settled"),
            "Jobs that came to a phase, by phase and reason",
            ("source", "phase", "reason"),
            registry=self._registry,
        )
        self._replays = Counter(named("replays"), "Jobs that were replayed", ("source",), registry=self._registry)
        self._due = Gauge(named("due_rows"), "Rows that wait for a vector", ("source",), registry=self._registry)
        self._rows = Gauge(named("rows"), "Rows of the table", ("source",), registry=self._registry)
        self._oldest = Gauge(
            named("oldest_due_seconds"), "Age of the oldest due mark", ("source",), registry=self._registry
        )
        self._open = Gauge(named("open_jobs"), "Jobs that are open, in all sources", registry=self._registry)
        self._window = Gauge(named("window_jobs"), "Jobs that may be open at the moment", registry=self._registry)
        self._dead = Gauge(named("dead_letters"), "Jobs that are dead letters", registry=self._registry)
        self._calls = Histogram(
            named("provider_call_seconds"),
            "Calls to the provider, by their outcome",
            ("source", "outcome"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._texts = Histogram(
            named("provider_call_texts"), "Texts in a call", ("source",), buckets=TEXTS, registry=self._registry
        )
        self._sweeps = Histogram(
            named("sweep_seconds"), "A look at a source's rows", ("source",), buckets=SECONDS, registry=self._registry
        )
        self._settle = Histogram(
            named("job_seconds"),
            "From a handler's start to the outcome",
            ("source",),
            buckets=SECONDS,
            registry=self._registry,
        )

    def settled(self, source: str, *, phase: str, reason: str, took_s: float) -> None:
        self._jobs.labels(source, phase, reason).inc()
        self._settle.labels(source).observe(took_s)

    def replayed(self, source: str) -> None:
        self._replays.labels(source).inc()

    def counted(self, source: str, counts: Counts) -> None:
        self._due.labels(source).set(counts.due)
        self._rows.labels(source).set(counts.total)
        since = counts.oldest_due_since
        self._oldest.labels(source).set(0 if since is None else max(0.0, time.time() - since.timestamp()))

    def forget(self, source: str) -> None:
        """A source that is gone has no gauges: its last figures would stay for ever."""
        for gauge in (self._due, self._rows, self._oldest):
            if (source,) in gauge._metrics:
                gauge.remove(source)

    @contextmanager
    def sweeping(self, source: str) -> Iterator[None]:
        with self._sweeps.labels(source).time():
            yield

    def call_started(self, *, source: str, texts: int) -> None:
        self._texts.labels(source).observe(texts)

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        self._calls.labels(source, outcome).observe(seconds)

    def page(self, *, open_jobs: int, window: int, dead_letters: int) -> bytes:
        """All of it in Prometheus' text format."""
        self._open.set(open_jobs)
        self._window.set(window)
        self._dead.set(dead_letters)
        return generate_latest(self._registry)
