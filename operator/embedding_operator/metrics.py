"""The Prometheus metrics of the process, and the methods that record them. Served by health.py.

Recorded by the job runner, the sources' loops and the provider registry (it is their CallObserver). Labels are bounded: a
source's name, a phase, a reason; never a row's id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from embedding_operator.lifecycle.backfill_status import BackfillFacts
from embedding_operator.lifecycle.source_conditions import conditions
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_worker.clock import Clock
from embedding_worker.providers.circuit import CircuitState

PREFIX = "embedding_operator"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CONDITION = ("source", "condition", "status")
STATUSES = {True: "True", False: "False", None: "Unknown"}
LONG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200)
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
        self._registry = CollectorRegistry()
        self.described: list[Described] = []
        self._of_sources: list[Gauge] = []
        ProcessCollector(registry=self._registry)
        self._gauge("build_info", "1, with the version as a label", "version").labels(
            version("embedding-operator")
        ).set(1)
        self._jobs = self._counter("job_transitions", "Transitions of jobs to a phase", "source", "phase", "reason")
        self._replays = self._counter("replays", "Replays of jobs", "source")
        self._refused = self._counter("refused_creates", "Creates of jobs that the API server has refused", "source")
        self._due = self._gauge("due_rows", "Rows whose embedding is missing or stale", "source")
        self._rows = self._gauge("rows", "Rows of the table", "source")
        self._oldest = self._gauge("oldest_due_seconds", "Age of the oldest change mark, at the scrape", "source")
        self._conditions = self._gauge(
            "source_condition", "1 for the status of each condition of a source, 0 for the others", *CONDITION
        )
        self._suspended = self._gauge("source_suspended", "1 while spec.suspend of a source is true, else 0", "source")
        self._open = self._gauge("open_jobs", "Open jobs of all sources")
        self._window = self._gauge("window_jobs", "Jobs that may be open at the moment, in all sources")
        self._dead = self._gauge("dead_letters", "Jobs in phase DeadLettered")
        self._dead_here = self._gauge("source_dead_letters", "Jobs in phase DeadLettered of one source", "source")
        self._limited = self._gauge(
            "dead_letter_limit_reached", "1 while no job is created because of too many dead letters, else 0", "source"
        )
        self._blank = self._gauge("blank_rows", "Rows whose text is empty, so that they have no vector", "source")
        self._texts_today = self._gauge("texts_today", "Texts that were sent today (UTC)", "source")
        self._texts_limit = self._gauge("texts_per_day_limit", "Texts that may be sent in a day", "source")
        self._tokens_today = self._gauge("tokens_today", "Estimated tokens of the texts that were sent today", "source")
        self._audited = self._gauge("audited_rows", "Rows that the present pass of the audit has read", "source")
        self._last_pass = self._gauge(
            "audit_completed_timestamp_seconds",
            "When the audit last came to the end of the table, in Unix time",
            "source",
        )
        self._backfill = (
            self._gauge("backfill_active", "1 while rows are embedded without a job for each, else 0", "source"),
            self._gauge("backfill_rows", "Rows of the present or last backfill", "source"),
            self._gauge("backfill_done_rows", "Rows of the backfill that need nothing more", "source"),
            self._gauge("backfill_failed_rows", "Rows of the backfill that failed and got a job", "source"),
            self._gauge("backfill_rows_per_second", "Rows that the backfill embeds in a second", "source"),
            self._gauge("backfill_workers", "Pods that embed the rows; 0 if the operator does", "source"),
        )
        self._facts: dict[str, SourceFacts] = {}
        self._database = self._gauge("database_up", "1 if the database answered when it was last asked, else 0")
        self._leader = self._gauge("leader", "1 while this process leads, 0 while it stands by")
        self._calls = self._histogram(
            "provider_call_seconds", "Duration of a call to the provider", "source", "outcome"
        )
        self._texts = self._histogram("provider_call_texts", "Texts in a call to the provider", "source", buckets=TEXTS)
        self._circuit = self._gauge("circuit_open", "1 while no call is made to a provider, or with a model", "circuit")
        self._turns = self._histogram("sweep_seconds", "Duration of a turn of a source's loop", "source")
        self._settle = self._histogram("job_seconds", "Time from the start of a job's handler to its outcome", "source")
        self._fresh = self._histogram(
            "edit_to_fresh_seconds",
            "Time from an edit of a row to its vector, where a job has written it",
            "source",
            buckets=LONG,
        )

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        self.described.append(Described(f"{PREFIX}_{name}_total", "counter", description, labels))
        return Counter(f"{PREFIX}_{name}", description, labels, registry=self._registry)

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        self.described.append(Described(f"{PREFIX}_{name}", "gauge", description, labels))
        gauge = Gauge(f"{PREFIX}_{name}", description, labels, registry=self._registry)
        if "source" in labels:
            self._of_sources.append(gauge)
        return gauge

    def _histogram(self, name: str, description: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        self.described.append(Described(f"{PREFIX}_{name}", "histogram", description, labels))
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

    def record_facts(self, source: str, facts: SourceFacts) -> None:
        """What is known of a source now, also while its status cannot be written."""
        self._facts[source] = facts

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
        self._facts.pop(source, None)
        for gauge in self._of_sources:
            gauge.remove_by_labels({"source": source})

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
        for source, facts in self._facts.items():
            self._show_rows(source, facts)
            self._show_conditions(source, facts)
            self._show_backfill(source, facts.backfill)
        return generate_latest(self._registry)

    def _show_rows(self, source: str, facts: SourceFacts) -> None:
        self._suspended.labels(source).set(facts.suspended)
        self._audited.labels(source).set(facts.audited_rows)
        if facts.audit_completed_at is not None:
            self._last_pass.labels(source).set(facts.audit_completed_at.timestamp())
        self._texts_limit.labels(source).set(facts.texts_per_day)
        if facts.used is not None:
            self._texts_today.labels(source).set(facts.used.texts)
            self._tokens_today.labels(source).set(facts.used.tokens)
        if (counts := facts.counts) is None:
            return
        since = counts.oldest_due_since
        age_s = 0.0 if since is None else (self._clock.now() - since).total_seconds()
        values = {
            self._due: counts.due,
            self._rows: counts.total,
            self._blank: counts.blank,
            self._oldest: max(0.0, age_s),
        }
        for gauge, value in values.items():
            gauge.labels(source).set(value)

    def _show_conditions(self, source: str, facts: SourceFacts) -> None:
        for condition in conditions(facts):
            for status in STATUSES:
                labels = (source, condition.type, STATUSES[status])
                self._conditions.labels(*labels).set(condition.status is status)

    def _show_backfill(self, source: str, facts: BackfillFacts | None) -> None:
        """The counts of the last one stay after its end."""
        if facts is None:
            return
        active = facts.completed_at is None
        rows_per_s, workers = (facts.rows_per_s or 0.0, facts.workers) if active else (0.0, 0)
        values = (active, facts.total, facts.done, facts.failed, rows_per_s, workers)
        for gauge, value in zip(self._backfill, values, strict=True):
            gauge.labels(source).set(value)
