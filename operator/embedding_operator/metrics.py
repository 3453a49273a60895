"""The Prometheus metrics of the process, and the methods that record them. Served by health.py.

Recorded by the job runner, the sources' loops and the provider registry (it is their CallObserver). Labels are bounded: a
source's name, a phase, a reason; never a row's id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.rewrites import OFTEN, Rewrite, Rewrites
from embedding_operator.source_metrics import DESCRIPTIONS, LABELS, SourceMetrics
from embedding_worker.clock import Clock
from embedding_worker.providers.circuit import CircuitState
from embedding_worker.providers.rate_limits import KINDS
from embedding_worker.rows.records import RateLimits

PREFIX = "embedding_operator"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LONG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 7_200)
TEXTS = (1, 2, 5, 10, 25, 50, 100, 250)


@dataclass(frozen=True)
class Described:
    """A metric, for its line in docs/metrics.md."""

    name: str
    kind: str
    description: str
    labels: tuple[str, ...]


class Metrics:
    """One registry for each process. Every name begins with embedding_operator_, except those of the process (process_…)."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._rewrites = Rewrites()
        self._registry = CollectorRegistry()
        self.described: list[Described] = []
        ProcessCollector(registry=self._registry)
        self._sources = SourceMetrics(PREFIX, clock=clock)
        self._registry.register(self._sources)
        for name, description in DESCRIPTIONS:
            kind = "counter" if name.endswith("_total") else "gauge"
            self._describe(name, kind, description, LABELS.get(name, ("source",)))
        self._gauge("build_info", "1, with the version as a label", "version").labels(
            version("embedding-operator")
        ).set(1)
        self._jobs = self._counter("job_transitions", "Transitions of jobs to a phase", "source", "phase", "reason")
        self._replays = self._counter("replays", "Replays of jobs", "source")
        self._rewritten = self._counter(
            "rewritten_rows",
            f"Vectors that a job has written for a row which jobs had embedded {OFTEN} times or more within the hour before",
            "source",
        )
        self._refused = self._counter("refused_creates", "Creates of jobs that the API server has refused", "source")
        self._open = self._gauge("open_jobs", "Open jobs of all sources")
        self._window = self._gauge("window_jobs", "Jobs that may be open at the moment, in all sources")
        self._dead = self._gauge("dead_letters", "Jobs in phase DeadLettered")
        self._dead_here = self._gauge("source_dead_letters", "Jobs in phase DeadLettered of one source", "source")
        self._limited = self._gauge(
            "dead_letter_limit_reached", "1 while no job is created because of too many dead letters, else 0", "source"
        )
        self._database = self._gauge("database_up", "1 if the database answered when it was last asked, else 0")
        self._leader = self._gauge("leader", "1 while this process leads, 0 while it stands by")
        self._create_those_of_providers()
        self._turns = self._histogram("sweep_seconds", "Duration of a turn of a source's loop", "source")
        self._settle = self._histogram(
            "job_seconds",
            "Time from the start of a job's handler to its outcome",
            "source",
            buckets=(*SECONDS, 60, 120, 300, 600),
        )
        self._fresh = self._histogram(
            "edit_to_fresh_seconds",
            "Time from an edit of a row to its vector, where a job has written it",
            "source",
            buckets=LONG,
        )

    def _create_those_of_providers(self) -> None:
        self._calls = self._histogram(
            "provider_call_seconds", "Duration of a call to the provider", "source", "outcome"
        )
        self._texts = self._histogram("provider_call_texts", "Texts in a call to the provider", "source", buckets=TEXTS)
        self._sent = self._counter(
            "provider_usage",
            "What was sent to a provider: requests, texts, and tokens as estimated",
            "provider",
            "kind",
        )
        self._limits = self._gauge(
            "provider_limit_per_minute",
            "What may be sent to a provider in a minute, where a limit is set",
            "provider",
            "kind",
        )
        self._throttled = self._gauge(
            "provider_throttled_until_timestamp_seconds",
            "Until when a provider has last asked for a pause by an answer 429, in Unix time",
            "provider",
        )
        self._circuit = self._gauge("circuit_open", "1 while no call is made to a provider, or with a model", "circuit")

    def _describe(self, name: str, kind: str, description: str, labels: tuple[str, ...]) -> None:
        self.described.append(Described(f"{PREFIX}_{name}", kind, description, labels))

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        self._describe(f"{name}_total", "counter", description, labels)
        return Counter(f"{PREFIX}_{name}", description, labels, registry=self._registry)

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        self._describe(name, "gauge", description, labels)
        return Gauge(f"{PREFIX}_{name}", description, labels, registry=self._registry)

    def _histogram(self, name: str, description: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        self._describe(name, "histogram", description, labels)
        return Histogram(f"{PREFIX}_{name}", description, labels, buckets=buckets, registry=self._registry)

    def record_job(self, source: str, *, phase: str, reason: str, took_s: float) -> None:
        """A job has come to this phase, `took_s` after its handler started."""
        self._jobs.labels(source, phase, reason).inc()
        self._settle.labels(source).observe(took_s)

    def record_leader(self, leads: bool) -> None:
        """This process leads, or stands by."""
        self._leader.set(leads)

    def record_replay(self, source: str) -> None:
        self._replays.labels(source).inc()

    def record_embedded(self, source: str, row_id: str) -> bool:
        """A job has written a vector for this row. Returns whether that has become too often this time."""
        found = self._rewrites.record(source, row_id, self._clock.monotonic())
        if found is not Rewrite.FEW:
            self._rewritten.labels(source).inc()
        return found is Rewrite.BEGUN

    def record_refused_creates(self, source: str, number: int) -> None:
        """So many more creates of the source's jobs were refused by the API server."""
        self._refused.labels(source).inc(number)

    def record_facts(self, source: str, facts: SourceFacts) -> None:
        """What is known of a source now, also while its status cannot be written."""
        self._sources.record(source, facts)
        for counter in (self._replays, self._refused, self._rewritten):
            counter.labels(source)  # at 0: Prometheus sees a counter grow from its second sample on

    def record_fresh(self, source: str, *, edited_s_ago: float) -> None:
        """A row has the vector of a text that was edited so long ago."""
        self._fresh.labels(source).observe(edited_s_ago)

    def record_database(self, *, up: bool) -> None:
        """Whether the database has answered."""
        self._database.set(up)

    def record_dead_letters(self, source: str, number: int, *, limit_reached: bool) -> None:
        """So many jobs of the source are dead letters now, and whether they stop it."""
        self._dead_here.labels(source).set(number)
        self._limited.labels(source).set(limit_reached)

    def forget(self, source: str) -> None:
        """The source was deleted: its gauges are removed, or they would show its last values without end."""
        self._sources.forget(source)
        self._rewrites.forget(source)
        for gauge in (self._dead_here, self._limited):
            gauge.remove_by_labels({"source": source})

    def call_started(self, *, source: str, provider: str, texts: int, tokens: int) -> None:
        """A call to the provider with so many texts is about to be sent."""
        self._texts.labels(source).observe(texts)
        for kind, amount in (("requests", 1), ("texts", texts), ("tokens", tokens)):
            self._sent.labels(provider, kind).inc(amount)

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        """A call has ended: `Succeeded`, `Cancelled`, or the name of its error."""
        self._calls.labels(source, outcome).observe(seconds)

    def circuit_changed(self, *, circuit: str, state: CircuitState) -> None:
        """`circuit` is the name of a provider, or of a provider and a model. While it is probing, no other call is made."""
        self._circuit.labels(circuit).set(state is not CircuitState.CLOSED)

    def limits_set(self, *, provider: str, limits: RateLimits) -> None:
        """The rate limits of a provider. A kind that has none has no sample."""
        for kind in KINDS:
            if (limit := getattr(limits, kind)) is not None:
                self._limits.labels(provider, kind).set(limit)

    def throttled(self, *, provider: str, until: datetime) -> None:
        """No call is made to this provider until then."""
        self._throttled.labels(provider).set(until.timestamp())

    @contextmanager
    def time_turn(self, source: str) -> Iterator[None]:
        """Record how long the block takes, as a turn of this source's loop."""
        with self._turns.labels(source).time():
            yield

    def page(self, *, open_jobs: int, window: int, dead_letters: int) -> bytes:
        """All metrics in Prometheus' text format."""
        self._open.set(open_jobs)
        self._window.set(window)
        self._dead.set(dead_letters)
        return generate_latest(self._registry)
