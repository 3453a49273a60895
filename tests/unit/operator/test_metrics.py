"""What Prometheus is told: the documented names, and what moves each of them."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedding_operator.metrics import Metrics
from embedding_worker.rows.store import Counts

NAMES = {
    *("jobs_settled", "replays", "due_rows", "rows", "oldest_due_seconds", "open_jobs", "window_jobs", "dead_letters"),
    *("provider_call_seconds", "provider_call_texts", "sweep_seconds", "job_seconds"),
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


def test_the_page_has_all_documented_names_and_no_other() -> None:
    found = re.findall(r"^# TYPE embedding_operator_(\w+) \w+$", page(Metrics()), re.MULTILINE)
    assert {re.sub("_(total|created)$", "", name) for name in found} == NAMES


def test_every_name_of_the_page_is_ours_and_explained() -> None:
    for family in text_string_to_metric_families(page(Metrics())):
        assert family.name.startswith("embedding_operator_")
        assert family.documentation


def test_a_settled_job_is_counted_by_phase_and_reason_and_its_time_observed() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.settled("shops", phase="Succeeded", reason="Embedded", took_s=0.3)
    assert value(metrics, "jobs_settled_total", source="shops", phase="Succeeded", reason="Embedded") == 2
    assert value(metrics, "job_seconds_sum", source="shops") == pytest.approx(0.6)


def test_a_replay_is_counted() -> None:
    metrics = Metrics()
    metrics.replayed("shops")
    assert value(metrics, "replays_total", source="shops") == 1


def test_the_rows_of_a_source_are_as_they_were_last_counted() -> None:
    metrics = Metrics()
    metrics.counted("shops", Counts(100, 7, True, datetime.now(UTC) - timedelta(minutes=1), estimated=False))
    metrics.counted("shops", Counts(101, 5, True, datetime.now(UTC) - timedelta(minutes=1), estimated=False))
    assert value(metrics, "rows", source="shops") == 101
    assert value(metrics, "due_rows", source="shops") == 5
    assert value(metrics, "oldest_due_seconds", source="shops") == pytest.approx(60, abs=5)


def test_where_nothing_is_due_the_oldest_is_no_age_at_all() -> None:
    metrics = Metrics()
    metrics.counted("shops", Counts(100, 0, False, None, estimated=False))
    assert value(metrics, "oldest_due_seconds", source="shops") == 0


def test_a_database_whose_clock_is_ahead_gives_no_age_below_nothing() -> None:
    metrics = Metrics()
    metrics.counted("shops", Counts(1, 1, True, datetime.now(UTC) + timedelta(minutes=1), estimated=False))
    assert value(metrics, "oldest_due_seconds", source="shops") == 0


def test_a_source_that_is_gone_takes_its_gauges_with_it_and_no_others() -> None:
    metrics = Metrics()
    for source in ("shops", "others"):
        metrics.counted(source, Counts(100, 7, True, None, estimated=False))
    metrics.forget("shops")
    metrics.forget("unknown")
    assert value(metrics, "due_rows", source="shops") is None
    assert value(metrics, "due_rows", source="others") == 7


def test_the_open_jobs_the_window_and_the_dead_letters_are_those_of_the_page() -> None:
    written = page(Metrics(), open_jobs=3, window=120, dead_letters=2)
    assert "embedding_operator_open_jobs 3.0" in written
    assert "embedding_operator_window_jobs 120.0" in written
    assert "embedding_operator_dead_letters 2.0" in written


def test_a_sweep_is_timed_also_where_it_fails() -> None:
    metrics = Metrics()

    def fail() -> None:
        with metrics.sweeping("shops"):
            raise ZeroDivisionError

    with metrics.sweeping("shops"):
        pass
    with pytest.raises(ZeroDivisionError):
        fail()
    assert value(metrics, "sweep_seconds_count", source="shops") == 2


@pytest.mark.parametrize("outcome", ["Succeeded", "ProviderThrottled"])
def test_a_call_is_observed_with_its_texts_its_duration_and_its_outcome(outcome: str) -> None:
    metrics = Metrics()
    metrics.call_started(source="shops", texts=2)
    metrics.call_finished(source="shops", outcome=outcome, seconds=0.5)
    assert value(metrics, "provider_call_texts_sum", source="shops") == 2
    assert value(metrics, "provider_call_seconds_sum", source="shops", outcome=outcome) == 0.5


def test_two_processes_in_one_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.replayed("shops")
    assert value(other, "replays_total", source="shops") is None
