"""The gauges of each source, computed from what is known of it when they are scraped. Created by metrics.py."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from embedding_operator.lifecycle.backfill_status import BackfillFacts
from embedding_operator.lifecycle.source_conditions import conditions
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.usage_metrics import TEXTS_CUT, USAGE_GAUGES, SourceGauge, Value
from embedding_worker.clock import Clock
from embedding_worker.rows.records import Counts

STATUSES = {True: "True", False: "False", None: "Unknown"}
CONDITION = ("source_condition", "1 for the status of each condition of a source, 0 for the others")
LABELS = {CONDITION[0]: ("source", "condition", "status")}


def _counted(value: Callable[[Counts], float]) -> Value:
    return lambda facts: None if facts.counts is None else value(facts.counts)


def _backfilled(value: Callable[[BackfillFacts], float]) -> Value:
    """Of the present or last backfill: its counts stay after its end."""
    return lambda facts: None if facts.backfill is None else value(facts.backfill)


def _while_active(value: Callable[[BackfillFacts], float]) -> Value:
    return _backfilled(lambda backfill: value(backfill) if backfill.completed_at is None else 0.0)


def _audit_completed(facts: SourceFacts) -> float | None:
    return None if facts.audit_completed_at is None else facts.audit_completed_at.timestamp()


def _freshness_target_s(facts: SourceFacts) -> float | None:
    return None if facts.freshness_target is None else facts.freshness_target.total_seconds()


GAUGES = (
    SourceGauge("due_rows", "Rows whose embedding is missing or stale", _counted(lambda counts: counts.due)),
    SourceGauge(
        "change_marks",
        "Change marks in PostgreSQL, at least one for each due row",
        _counted(lambda counts: counts.marks),
    ),
    SourceGauge("rows", "Rows of the table", _counted(lambda counts: counts.total)),
    SourceGauge(
        "blank_rows", "Rows whose text is empty, so that they have no vector", _counted(lambda counts: counts.blank)
    ),
    SourceGauge("source_suspended", "1 while spec.suspend of a source is true, else 0", lambda facts: facts.suspended),
    *USAGE_GAUGES,
    SourceGauge(
        "freshness_target_seconds",
        "How long a row may be due, where spec.freshnessTarget says so",
        _freshness_target_s,
    ),
    SourceGauge("audited_rows", "Rows that the present pass of the audit has read", lambda facts: facts.audited_rows),
    SourceGauge(
        "audit_completed_timestamp_seconds",
        "When the audit last came to the end of the table, in Unix time",
        _audit_completed,
    ),
    SourceGauge(
        "backfill_active",
        "1 while rows are embedded without a job for each, else 0",
        _while_active(lambda backfill: 1),
    ),
    SourceGauge("backfill_rows", "Rows of the present or last backfill", _backfilled(lambda backfill: backfill.total)),
    SourceGauge(
        "backfill_done_rows", "Rows of the backfill that need nothing more", _backfilled(lambda backfill: backfill.done)
    ),
    SourceGauge(
        "backfill_failed_rows",
        "Rows of the backfill that failed and got a job",
        _backfilled(lambda backfill: backfill.failed),
    ),
    SourceGauge(
        "backfill_rows_per_second",
        "Rows that the backfill embeds in a second",
        _while_active(lambda backfill: backfill.rows_per_s or 0.0),
    ),
    SourceGauge(
        "backfill_workers",
        "Pods that embed the rows; 0 if the operator does",
        _while_active(lambda backfill: backfill.workers),
    ),
)
OLDEST = ("oldest_due_seconds", "Age of the oldest change mark of a row without a dead letter, at the scrape")
DESCRIPTIONS = (OLDEST, CONDITION, TEXTS_CUT, *((gauge.name, gauge.description) for gauge in GAUGES))
"""Names and descriptions of all of them."""


class SourceMetrics(Collector):
    """What is known of each source. A source that is forgotten has no samples any more."""

    def __init__(self, prefix: str, *, clock: Clock) -> None:
        self._prefix = prefix
        self._clock = clock
        self._facts: dict[str, SourceFacts] = {}

    def record(self, source: str, facts: SourceFacts) -> None:
        self._facts[source] = facts

    def forget(self, source: str) -> None:
        self._facts.pop(source, None)

    def collect(self) -> Iterator[Metric]:
        """One family for each gauge, with a sample for each source that has a value."""
        for gauge in (*GAUGES, SourceGauge(*OLDEST, self._oldest_s)):
            family = self._family(gauge.name, gauge.description)
            for source, facts in self._facts.items():
                if (value := gauge.value(self._of_today(facts))) is not None:
                    family.add_metric([source], value)
            yield family
        yield self._texts_cut()
        yield self._conditions()

    def _texts_cut(self) -> CounterMetricFamily:
        name, description = TEXTS_CUT
        family = CounterMetricFamily(f"{self._prefix}_{name}", description, labels=("source",))
        for source, facts in self._facts.items():
            if facts.used is not None:
                family.add_metric([source], facts.used.cut_ever)
        return family

    def _family(self, name: str, description: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{self._prefix}_{name}", description, labels=LABELS.get(name, ("source",)))

    def _of_today(self, facts: SourceFacts) -> SourceFacts:
        """While a source cannot be set up, nothing counts its texts again after midnight."""
        used, today = facts.used, f"{self._clock.now():%Y-%m-%d}"
        return facts if used is None or used.day == today else replace(facts, used=used.on(today))

    def _oldest_s(self, facts: SourceFacts) -> float | None:
        if facts.counts is None:
            return None
        since = facts.counts.oldest_due_since
        return 0.0 if since is None else max(0.0, (self._clock.now() - since).total_seconds())

    def _conditions(self) -> GaugeMetricFamily:
        family = self._family(*CONDITION)
        for source, facts in self._facts.items():
            for condition in conditions(facts):
                for status, word in STATUSES.items():
                    family.add_metric([source, condition.type, word], float(condition.status is status))
        return family
