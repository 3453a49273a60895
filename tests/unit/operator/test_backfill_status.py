"""What a source's status says about its backfill: counts, rate, estimate, and the condition Backfilling."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from embedding_operator.lifecycle import backfill_status
from embedding_operator.lifecycle.backfill_status import (
    BackfillFacts,
    Backlog,
    RowRate,
    about,
    backfilling,
    estimated_completion,
)
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.lifecycle.source_status import status, worth_writing

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
BACKFILL = BackfillFacts(
    200_000, 50_000, 3, rows_per_s=800.0, workers=0, began_at=datetime(2026, 3, 1, 11, 59, tzinfo=UTC)
)
COMPLETE = replace(
    BACKFILL, done=199_990, failed=10, rows_per_s=None, completed_at=BACKFILL.began_at + timedelta(seconds=250)
)
PROBLEM = ("WorkersNotEnabled", "spec.backfill.workers is 3: set backfill.workers.enabled in the chart")
BACKLOG = Backlog(50_000, rows_per_s=40.0)
SOURCE = SourceFacts(3, "any@8", set_up=True, filled=True)


def test_an_active_backfill_has_its_counts_its_rate_and_an_estimate() -> None:
    assert backfill_status.status(BACKFILL, NOW) == {
        "progress": "50000/200000",
        "total": 200_000,
        "done": 50_000,
        "failed": 3,
        "rowsPerSecond": "800.0",
        "estimatedCompletion": "2026-03-01T12:04:00.000Z",
        "workers": 0,
        "beganAt": "2026-03-01T11:59:00.000Z",
        "completedAt": None,
    }


def test_a_complete_backfill_has_the_rate_of_all_its_rows_and_no_estimate() -> None:
    found = backfill_status.status(COMPLETE, NOW)
    assert found is not None
    assert (found["rowsPerSecond"], found["estimatedCompletion"]) == ("800.0", None)
    assert found["completedAt"] == "2026-03-01T12:03:10.000Z"


def test_a_source_without_a_backfill_has_no_such_status() -> None:
    assert backfill_status.status(None, NOW) is None


@pytest.mark.parametrize("rows_per_s", [None, 0.0, 1e-12])
def test_without_a_rate_there_is_no_estimate(rows_per_s: float | None) -> None:
    assert estimated_completion(replace(BACKFILL, rows_per_s=rows_per_s), NOW) is None


def test_more_rows_than_were_counted_are_complete_now() -> None:
    assert estimated_completion(replace(BACKFILL, done=210_000), NOW) == datetime(2026, 3, 1, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("facts", "backlog", "expected"),
    [
        (None, None, (False, "NoBackfill")),
        (BACKFILL, None, (True, "Backfilling")),
        (replace(BACKFILL, paused=True), None, (True, "Paused")),
        (replace(BACKFILL, problem=PROBLEM), None, (False, "WorkersNotEnabled")),
        (replace(BACKFILL, problem=PROBLEM, paused=True), None, (False, "WorkersNotEnabled")),
        (COMPLETE, None, (False, "Completed")),
        (replace(COMPLETE, problem=PROBLEM), None, (False, "Completed")),
        (None, BACKLOG, (False, "LargeBacklogInJobs")),
        (COMPLETE, BACKLOG, (False, "LargeBacklogInJobs")),
        (BACKFILL, BACKLOG, (True, "Backfilling")),
    ],
)
def test_the_condition_says_whether_rows_are_embedded_in_pages_and_why_not(
    facts: BackfillFacts | None, backlog: Backlog | None, expected: tuple[bool, str]
) -> None:
    condition = backfilling(facts, backlog)
    assert (condition.type, condition.status, condition.reason) == ("Backfilling", *expected)


def test_a_backfill_whose_provider_may_not_be_called_is_paused() -> None:
    condition = backfilling(BACKFILL, None, no_calls=True)
    assert (condition.status, condition.reason) == (True, "Paused")
    assert backfilling(COMPLETE, None, no_calls=True).reason == "Completed"


def test_the_condition_says_where_the_rows_are_embedded() -> None:
    assert "in the operator's process" in backfilling(BACKFILL, None).message
    assert "by 3 workers" in backfilling(replace(BACKFILL, workers=3), None).message
    assert "by 1 worker:" in backfilling(replace(BACKFILL, workers=1), None).message


def test_a_large_backlog_says_how_long_its_jobs_take_and_what_auto_would_do() -> None:
    message = backfilling(None, BACKLOG).message
    assert "their jobs will take about 20 minutes at the present rate" in message
    assert "with spec.backfill.mode Auto they are embedded page by page" in message


@pytest.mark.parametrize("rows_per_s", [None, 0.0])
def test_a_large_backlog_without_a_rate_names_no_time(rows_per_s: float | None) -> None:
    assert "a time that is not known yet" in backfilling(None, replace(BACKLOG, rows_per_s=rows_per_s)).message


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a minute"),
        (53, "less than a minute"),
        (60, "about 1 minute"),
        (290, "about 5 minutes"),
        (13 * 60, "about 10 minutes"),
        (26 * 60, "about 30 minutes"),
        (55 * 60, "about 1 hour"),
        (5.4 * 3_600, "about 5 hours"),
        (21 * 3_600, "about 21 hours"),
        (22 * 3_600, "about 1 day"),
        (10 * 86_400, "about 10 days"),
    ],
)
def test_a_duration_is_said_in_one_rounded_unit(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_the_message_of_a_backfill_stays_while_its_counts_change() -> None:
    later = replace(BACKFILL, done=60_000, rows_per_s=900.0)
    assert backfilling(BACKFILL, None) == backfilling(later, None)


@pytest.mark.parametrize(("since_written_s", "written"), [(9.9, False), (10.0, True)])
def test_the_progress_of_a_backfill_is_written_as_rarely_as_a_count(since_written_s: float, written: bool) -> None:
    before = status(replace(SOURCE, backfill=BACKFILL), {}, NOW)
    new = status(replace(SOURCE, backfill=replace(BACKFILL, done=51_000)), before, NOW)
    assert worth_writing(new, before, since_written_s=since_written_s) is written


@pytest.mark.parametrize(("since_written_s", "written"), [(9.9, False), (10.0, True)])
def test_another_estimate_in_the_condition_is_written_as_rarely_as_a_count(
    since_written_s: float, written: bool
) -> None:
    before = status(replace(SOURCE, backlog=BACKLOG), {}, NOW)
    new = status(replace(SOURCE, backlog=replace(BACKLOG, rows_per_s=10.0)), before, NOW)
    assert worth_writing(new, before, since_written_s=since_written_s) is written


def test_the_begin_of_a_backfill_is_written_as_soon_as_a_condition() -> None:
    before = status(SOURCE, {}, NOW)
    assert worth_writing(status(replace(SOURCE, backfill=BACKFILL), before, NOW), before, since_written_s=1.0)


def rate(*samples: tuple[float, int]) -> float | None:
    measured = RowRate()
    for now_s, rows in samples:
        measured.record(now_s, rows)
    return measured.rows_per_s


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], None),
        ([(5.0, 0)], None),
        ([(5.0, 0), (6.9, 100)], None),
        ([(5.0, 0), (7.0, 100)], 50.0),
        ([(0.0, 1_000), (10.0, 1_500), (20.0, 2_000)], 50.0),
        ([(0.0, 0), (30.0, 3_000), (60.0, 3_000), (90.0, 3_000)], 0.0),
        ([(0.0, 0), (30.0, 0), (60.0, 600), (90.0, 1_200)], 20.0),
        ([(0.0, 500), (10.0, 900), (11.0, 0), (21.0, 100)], 10.0),
        ([(0.0, 0), (600.0, 6_000)], 10.0),
    ],
    ids=[
        "nothing",
        "one number",
        "too short",
        "two seconds",
        "several",
        "nothing in the last minute",
        "only the last minute",
        "another backfill",
        "two numbers far apart",
    ],
)
def test_the_rate_is_that_of_the_last_minute(samples: list[tuple[float, int]], expected: float | None) -> None:
    assert rate(*samples) == expected


def test_a_rate_is_measured_with_few_numbers_in_memory() -> None:
    measured = RowRate()
    for turn in range(10_000):
        measured.record(turn * 0.5, turn)
    assert len(measured._samples) <= 122
