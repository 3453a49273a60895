"""The Prometheus metrics of the process, and the methods that record them. Served by health.py.

Recorded by the job runner, the sources' loops and the provider registry (it is their CallObserver). Labels are bounded: a
source's name, a phase, a reason; never a row's id.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from embedding_operator.lifecycle.backfill_status import BackfillFacts
from embedding_worker.clock import Clock
from embedding_worker.providers.circuit import CircuitState
from embedding_worker.rows.records import Counts

PREFIX = "embedding_operator"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 5, 10, 25, 50, 100, 250)


class Metrics:
    """One registry for each process; every name begins with embedding_operator_."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        self._jobs = self._counter("jobs_settled", "Transitions of jobs to a phase", "source", "phase", "reason")
        self._replays = self._counter("replays", "Replays of jobs", "source")
        self._refused = self._counter("refused_creates", "Creates of jobs that the API server has refused", "source")
        self._due = self._gauge("due_rows", "Rows whose embedding is missing or stale", "source")
        self._rows = self._gauge("rows", "Rows of the table", "source")
        self._oldest = self._gauge("oldest_due_seconds", "Age of the oldest change mark", "source")
        self._open = self._gauge("open_jobs", "Open jobs of all sources")
        self._window = self._gauge("window_jobs", "Jobs that may be open at the moment, in all sources")
        self._dead = self._gauge("dead_letters", "Jobs in phase DeadLettered")
        self._dead_here = self._gauge("source_dead_letters", "Jobs in phase DeadLettered of one source", "source")
        self._limited = self._gauge(
            "dead_letter_limit_reached", "1 while no job is created because of too many dead letters, else 0", "source"
        )
        self._backfill = (
            self._gauge("backfill_active", "1 while rows are embedded without a job for each, else 0", "source"),
            self._gauge("backfill_rows", "Rows of the present or last backfill", "source"),
            self._gauge("backfill_done_rows", "Rows of the backfill that need nothing more", "source"),
            self._gauge("backfill_failed_rows", "Rows of the backfill that failed and got a job", "source"),
            self._gauge("backfill_rows_per_second", "Rows that the backfill embeds in a second", "source"),
            self._gauge("backfill_workers", "Pods that embed the rows; 0 if the operator does", "source"),
        )
        self._leader = self._gauge("leader", "1 while this process leads, 0 while it stands by")
        self._calls = self._histogram(
            "provider_call_seconds", "Duration of a call to the provider", "source", "outcome"
        )
        self._texts = self._histogram("provider_call_texts", "Texts in a call to the provider", "source", buckets=TEXTS)
        self._circuit = self._gauge("circuit_open", "1 while no call is made to a provider, or with a model", "circuit")
        self._turns = self._histogram("sweep_seconds", "Duration of a turn of a source's loop", "source")
        self._settle = self._histogram("job_seconds", "Time from the start of a job's handler to its outcome", "source")

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", description, labels, registry=self._registry)

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", description, labels, registry=self._registry)

    def _histogram(self, name: str, description: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
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

    def record_refused_creates(self, source: str, number: int) -> None:
        """So many more creates of the source's jobs were refused by the API server."""
        self._refused.labels(source).inc(number)

    def record_counts(self, source: str, counts: Counts) -> None:
        """The source's rows were counted."""
        self._due.labels(source).set(counts.due)
        self._rows.labels(source).set(counts.total)
        since = counts.oldest_due_since
        self._oldest.labels(source).set(0 if since is None else max(0.0, (self._clock.now() - since).total_seconds()))

    def record_dead_letters(self, source: str, number: int, *, limit_reached: bool) -> None:
        """So many jobs of the source are dead letters now, and whether they stop it."""
        self._dead_here.labels(source).set(number)
        self._limited.labels(source).set(limit_reached)

    def record_backfill(self, source: str, facts: BackfillFacts | None) -> None:
        """How far the source's backfill has come. The counts of the last one stay after its end. None: there was none."""
        if facts is None:
            return
        active = facts.completed_at is None
        rows_per_s, workers = (facts.rows_per_s or 0.0, facts.workers) if active else (0.0, 0)
        values = (active, facts.total, facts.done, facts.failed, rows_per_s, workers)
        for gauge, value in zip(self._backfill, values, strict=True):
            gauge.labels(source).set(value)

    def forget(self, source: str) -> None:
        """The source was deleted: its gauges are removed, or they would show its last values without end."""
        for gauge in (self._due, self._rows, self._oldest, self._dead_here, self._limited, *self._backfill):
            if (source,) in gauge._metrics:
                gauge.remove(source)

    def call_started(self, *, source: str, texts: int) -> None:
        """A call to the provider with so many texts is about to be sent."""
        self._texts.labels(source).observe(texts)

    def call_finished(self, *, source: str, outcome: str, seconds: float) -> None:
        """A call has ended: `Succeeded`, `Cancelled`, or the name of its error."""
        self._calls.labels(source, outcome).observe(seconds)

    def circuit_changed(self, *, circuit: str, state: CircuitState) -> None:
        """`circuit` is the name of a provider, or of a provider and a model. While it is probing, no other call is made."""
        self._circuit.labels(circuit).set(state is not CircuitState.CLOSED)

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
