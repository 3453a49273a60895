"""The documented names of the metrics, and what changes each of them."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedding_operator.lifecycle.backfill_status import BackfillFacts
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.metrics import Metrics
from embedding_worker.limits import Limits
from embedding_worker.providers.circuit import CircuitState
from embedding_worker.providers.rate_limits import KINDS
from embedding_worker.rows.records import Counts, RateLimits, Used
from tests.support.fake_clock import START, FakeClock

FACTS = SourceFacts(1, "any@8", set_up=True, limits=Limits(1_000))
BACKFILL = BackfillFacts(200, 50, 3, rows_per_s=12.5, workers=4, began_at=START)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metrics(clock: FakeClock) -> Metrics:
    return Metrics(clock=clock)


NAMES = {
    *(
        "job_transitions",
        "replays",
        "refused_creates",
        "rewritten_rows",
        "due_rows",
        "rows",
        "oldest_due_seconds",
        "open_jobs",
    ),
    *("window_jobs", "dead_letters", "source_dead_letters", "dead_letter_limit_reached"),
    *("backfill_active", "backfill_rows", "backfill_done_rows", "backfill_failed_rows"),
    *("backfill_rows_per_second", "backfill_workers"),
    *("leader", "source_condition", "build_info", "database_up"),
    *("blank_rows", "source_suspended", "texts_today", "texts_per_day_limit", "tokens_today", "audited_rows"),
    *("audit_completed_timestamp_seconds", "edit_to_fresh_seconds", "estimated_cost_today"),
    *("provider_usage", "provider_limit_per_minute", "provider_throttled_until_timestamp_seconds"),
    *("freshness_target_seconds", "change_marks", "texts_cut"),
    *("reported_tokens_today", "estimated_cost_this_month", "price_per_million_tokens"),
    *("tokens_per_day_limit", "estimated_cost_per_month_limit"),
    *("provider_call_seconds", "provider_call_texts", "circuit_open", "sweep_seconds", "job_seconds"),
}


def page(metrics: Metrics, *, open_jobs: int = 0, window: int = 50, dead_letters: int = 0) -> str:
    return metrics.page(open_jobs=open_jobs, window=window, dead_letters=dead_letters).decode()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The sample of this name (without our prefix) and these labels."""
    for family in text_string_to_metric_families(page(metrics)):
        for sample in family.samples:
            if (sample.name, sample.labels) == (f"embedding_operator_{name}", labels):
                return float(sample.value)
    return None


def test_the_page_has_all_documented_names_and_no_other(metrics: Metrics) -> None:
    found = re.findall(r"^# TYPE embedding_operator_(\w+) \w+$", page(metrics), re.MULTILINE)
    assert {re.sub("_(total|created)$", "", name) for name in found} == NAMES


def test_every_metric_has_our_prefix_and_a_description(metrics: Metrics) -> None:
    for family in text_string_to_metric_families(page(metrics)):
        assert family.name.startswith(("embedding_operator_", "process_"))
        assert family.documentation


def test_a_settled_job_is_counted_by_phase_and_reason_and_its_time_observed(metrics: Metrics) -> None:
    for _ in range(2):
        metrics.record_job("shops", phase="Succeeded", reason="Embedded", took_s=0.3)
    assert value(metrics, "job_transitions_total", source="shops", phase="Succeeded", reason="Embedded") == 2
    assert value(metrics, "job_seconds_sum", source="shops") == pytest.approx(0.6)


def test_a_replay_is_counted(metrics: Metrics) -> None:
    metrics.record_replay("shops")
    assert value(metrics, "replays_total", source="shops") == 1


@pytest.mark.parametrize(
    ("state", "expected"), [(CircuitState.CLOSED, 0), (CircuitState.OPEN, 1), (CircuitState.PROBING, 1)]
)
def test_a_circuit_is_open_until_calls_may_be_made_again(
    metrics: Metrics, state: CircuitState, expected: float
) -> None:
    metrics.circuit_changed(circuit="local any@8", state=state)
    assert value(metrics, "circuit_open", circuit="local any@8") == expected


def test_the_rows_of_a_source_are_as_they_were_last_counted(metrics: Metrics) -> None:
    metrics.record_facts(
        "shops", replace(FACTS, counts=Counts(100, 7, True, START - timedelta(minutes=1), estimated=False))
    )
    metrics.record_facts(
        "shops", replace(FACTS, counts=Counts(101, 5, True, START - timedelta(minutes=1), estimated=False))
    )
    assert value(metrics, "rows", source="shops") == 101
    assert value(metrics, "due_rows", source="shops") == 5
    assert value(metrics, "oldest_due_seconds", source="shops") == 60


def test_without_a_due_row_the_age_of_the_oldest_is_zero(metrics: Metrics) -> None:
    metrics.record_facts("shops", replace(FACTS, counts=Counts(100, 0, False, None, estimated=False)))
    assert value(metrics, "oldest_due_seconds", source="shops") == 0


@pytest.mark.parametrize("counter", ["replays_total", "refused_creates_total", "rewritten_rows_total"])
def test_a_counter_of_rare_events_begins_at_zero(metrics: Metrics, counter: str) -> None:
    metrics.record_facts("shops", FACTS)
    assert value(metrics, counter, source="shops") == 0


def test_a_freshness_target_is_shown_where_a_source_has_one(metrics: Metrics) -> None:
    metrics.record_facts("shops", replace(FACTS, freshness_target=timedelta(minutes=15)))
    metrics.record_facts("offices", FACTS)
    assert value(metrics, "freshness_target_seconds", source="shops") == 900
    assert value(metrics, "freshness_target_seconds", source="offices") is None


def test_a_database_whose_clock_is_ahead_gives_no_negative_age(metrics: Metrics) -> None:
    metrics.record_facts(
        "shops", replace(FACTS, counts=Counts(1, 1, True, START + timedelta(minutes=1), estimated=False))
    )
    assert value(metrics, "oldest_due_seconds", source="shops") == 0


async def test_the_age_of_the_oldest_row_grows_between_two_counts(metrics: Metrics, clock: FakeClock) -> None:
    metrics.record_facts("shops", replace(FACTS, counts=Counts(1, 1, True, START, estimated=False)))
    await clock.advance(120)
    assert value(metrics, "oldest_due_seconds", source="shops") == 120


def test_what_was_sent_today_is_beside_what_may_be_sent(metrics: Metrics) -> None:
    metrics.record_facts("shops", replace(FACTS, used=Used("2026-03-01", 400, 9_000)))
    names = ("texts_today", "texts_per_day_limit", "tokens_today")
    assert [value(metrics, name, source="shops") for name in names] == [400, 1_000, 9_000]


@pytest.mark.parametrize("suspended", [True, False])
def test_whether_a_source_is_suspended(metrics: Metrics, suspended: bool) -> None:
    metrics.record_facts("shops", replace(FACTS, suspended=suspended))
    assert value(metrics, "source_suspended", source="shops") == suspended


def test_the_audit_has_its_position_and_its_last_end(metrics: Metrics) -> None:
    metrics.record_facts("shops", replace(FACTS, audited_rows=120))
    assert value(metrics, "audited_rows", source="shops") == 120
    assert value(metrics, "audit_completed_timestamp_seconds", source="shops") is None
    metrics.record_facts("shops", replace(FACTS, audit_completed_at=START))
    assert value(metrics, "audit_completed_timestamp_seconds", source="shops") == START.timestamp()


def test_whether_the_database_has_answered(metrics: Metrics) -> None:
    for up in (True, False):
        metrics.record_database(up=up)
        assert value(metrics, "database_up") == up


def test_the_time_from_an_edit_to_its_vector_is_observed(metrics: Metrics) -> None:
    metrics.record_fresh("shops", edited_s_ago=0.4)
    assert value(metrics, "edit_to_fresh_seconds_sum", source="shops") == pytest.approx(0.4)


def test_a_condition_has_the_value_1_for_its_status_alone(metrics: Metrics) -> None:
    metrics.record_facts("shops", SourceFacts(1, "any@8", set_up=True))
    metrics.record_facts("shops", SourceFacts(1, "any@8", refused=("TableMissing", "create the table")))
    found = {
        (kind, status): value(metrics, "source_condition", source="shops", condition=kind, status=status)
        for kind in ("Ready", "Fresh")
        for status in ("True", "False", "Unknown")
    }
    assert {key for key, number in found.items() if number == 1} == {("Ready", "False"), ("Fresh", "Unknown")}
    metrics.forget("shops")
    assert value(metrics, "source_condition", source="shops", condition="Ready", status="False") is None


def test_the_gauges_of_a_deleted_source_are_removed_and_no_others(metrics: Metrics) -> None:
    for source in ("shops", "others"):
        counts = Counts(100, 7, True, None, estimated=False)
        metrics.record_facts(source, replace(FACTS, counts=counts, backfill=BACKFILL))
        metrics.record_dead_letters(source, 3, limit_reached=False)
    assert value(metrics, "due_rows", source="shops") == 7
    metrics.forget("shops")
    metrics.forget("unknown")
    assert value(metrics, "source_dead_letters", source="shops") is None
    assert value(metrics, "dead_letter_limit_reached", source="others") == 0
    assert value(metrics, "due_rows", source="shops") is None
    assert value(metrics, "backfill_rows", source="shops") is None
    assert value(metrics, "backfill_rows", source="others") == 200
    assert value(metrics, "due_rows", source="others") == 7


def test_the_open_jobs_the_window_and_the_dead_letters_are_those_of_the_page(metrics: Metrics) -> None:
    written = page(metrics, open_jobs=3, window=120, dead_letters=2)
    assert "embedding_operator_open_jobs 3.0" in written
    assert "embedding_operator_window_jobs 120.0" in written
    assert "embedding_operator_dead_letters 2.0" in written


def test_a_source_has_its_dead_letters_and_whether_they_stop_it(metrics: Metrics) -> None:
    metrics.record_dead_letters("shops", 500, limit_reached=True)
    assert value(metrics, "source_dead_letters", source="shops") == 500
    assert value(metrics, "dead_letter_limit_reached", source="shops") == 1
    metrics.record_dead_letters("shops", 499, limit_reached=False)
    assert value(metrics, "dead_letter_limit_reached", source="shops") == 0


def backfill(metrics: Metrics) -> list[float | None]:
    names = ("active", "rows", "done_rows", "failed_rows", "rows_per_second", "workers")
    return [value(metrics, f"backfill_{name}", source="shops") for name in names]


def test_a_backfill_has_its_rows_its_rate_and_its_workers(metrics: Metrics) -> None:
    metrics.record_facts("shops", replace(FACTS, backfill=BACKFILL))
    assert backfill(metrics) == [1, 200, 50, 3, 12.5, 4]


def test_a_backfill_that_has_ended_keeps_its_rows_and_has_no_rate_and_no_workers(metrics: Metrics) -> None:
    metrics.record_facts("shops", replace(FACTS, backfill=replace(BACKFILL, completed_at=START)))
    assert backfill(metrics) == [0, 200, 50, 3, 0, 0]


def test_a_source_without_a_backfill_has_no_such_metrics(metrics: Metrics) -> None:
    metrics.record_facts("shops", FACTS)
    assert set(backfill(metrics)) == {None}


def test_a_turn_is_timed_also_where_it_fails(metrics: Metrics) -> None:

    def fail() -> None:
        with metrics.time_turn("shops"):
            raise ZeroDivisionError

    with metrics.time_turn("shops"):
        pass
    with pytest.raises(ZeroDivisionError):
        fail()
    assert value(metrics, "sweep_seconds_count", source="shops") == 2


@pytest.mark.parametrize("outcome", ["Succeeded", "ProviderThrottled"])
def test_a_call_is_observed_with_its_texts_its_duration_and_its_outcome(metrics: Metrics, outcome: str) -> None:
    metrics.call_started(source="shops", provider="gemini", texts=2, tokens=9)
    metrics.call_finished(source="shops", outcome=outcome, seconds=0.5)
    assert value(metrics, "provider_call_texts_sum", source="shops") == 2
    assert value(metrics, "provider_call_seconds_sum", source="shops", outcome=outcome) == 0.5


def test_what_is_sent_to_a_provider_is_counted_beside_its_limits(metrics: Metrics) -> None:
    metrics.limits_set(provider="gemini", limits=RateLimits(requests=3_000, texts=None, tokens=1_000_000))
    for texts in (2, 5):
        metrics.call_started(source="shops", provider="gemini", texts=texts, tokens=10 * texts)
    sent = [value(metrics, "provider_usage_total", provider="gemini", kind=kind) for kind in KINDS]
    limits = [value(metrics, "provider_limit_per_minute", provider="gemini", kind=kind) for kind in KINDS]
    assert (sent, limits) == ([2, 7, 70], [3_000, None, 1_000_000])


def test_a_pause_that_a_provider_asks_for_is_the_moment_of_its_end(metrics: Metrics) -> None:
    metrics.throttled(provider="gemini", until=START)
    assert value(metrics, "provider_throttled_until_timestamp_seconds", provider="gemini") == START.timestamp()


def test_the_cost_of_the_day_is_that_of_its_tokens(metrics: Metrics) -> None:
    metrics.record_facts("shops", replace(FACTS, used=Used("2026-03-01", 2, 2_000_000), price_per_million_tokens=0.15))
    assert value(metrics, "estimated_cost_today", source="shops") == pytest.approx(0.3)


def test_what_was_sent_on_another_day_is_not_of_today(metrics: Metrics, clock: FakeClock) -> None:
    metrics.record_facts("shops", replace(FACTS, used=Used("2026-02-28", 400, 9_000), price_per_million_tokens=0.15))
    names = ("texts_today", "tokens_today", "estimated_cost_today", "estimated_cost_this_month")
    assert [value(metrics, name, source="shops") for name in names] == [0, 0, 0, 0]


def test_in_another_day_of_the_month_its_cost_stays(metrics: Metrics, clock: FakeClock) -> None:
    used = Used("2026-02-28", 400, 9_000, month_tokens=2_000_000, cut_ever=3)
    metrics.record_facts("shops", replace(FACTS, used=used.on("2026-03-01"), price_per_million_tokens=0.15))
    assert value(metrics, "estimated_cost_this_month", source="shops") == 0
    metrics.record_facts("shops", replace(FACTS, used=used.on("2026-02-29"), price_per_million_tokens=0.15))
    assert used.on("2026-02-29").month_tokens == 2_000_000
    assert value(metrics, "texts_cut_total", source="shops") == 3


def test_the_limits_that_are_set_have_a_sample_each(metrics: Metrics) -> None:
    names = ("texts_per_day_limit", "tokens_per_day_limit", "estimated_cost_per_month_limit")
    metrics.record_facts("shops", FACTS)
    metrics.record_facts("others", replace(FACTS, limits=Limits(5, 6, 7.5)))
    assert [value(metrics, name, source="shops") for name in names] == [1_000, None, None]
    assert [value(metrics, name, source="others") for name in names] == [5, 6, 7.5]


def test_two_sets_of_metrics_share_nothing() -> None:
    one, other = Metrics(clock=FakeClock()), Metrics(clock=FakeClock())
    one.record_replay("shops")
    assert value(other, "replays_total", source="shops") is None
