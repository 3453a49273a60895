"""Why one row is not fresh, and its place: decided from what is known of its source, its marks and the limits."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from embedding_operator.lifecycle.row_explanation import (
    JobFacts,
    Place,
    Queue,
    RowExplanation,
    RowState,
    as_json,
    place,
    row_state,
    stopped_by,
    waits_for_approval,
    why_no_job,
    why_not_marked,
)
from embedding_operator.lifecycle.source_facts import Pending, SourceFacts
from embedding_operator.resources.embedding_job import Phase, parse_job
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.one_row import RowFacts, RowMarks, RowsAround
from embedding_worker.rows.records import Counts, LastOutcome
from tests.support.jobs import job_body

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
COUNTS = Counts(10, 3, True, AT, estimated=False)
WELL = SourceFacts(1, "any@8", set_up=True, filled=True, counts=COUNTS, provider_called=True)
EDITED = RowFacts(exists=True, marks=RowMarks(AT, edited=True, first=5, newest_edit=5))
FOUND = RowFacts(exists=True, marks=RowMarks(AT, edited=False, first=5, newest_edit=0))
FREE = Queue(None, window_free=10, room=10, backfilling=False)
LOCKED = ("RowLocked", "it is locked")
AWAY = Problem("ProviderUnavailable", "it is away")


def reasons(facts: SourceFacts = WELL, row: RowFacts = EDITED, queue: Queue = FREE) -> list[str]:
    return [reason for reason, _ in why_no_job(facts, row, queue)]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"suspended": True}, ["Suspended"]),
        ({"provider_problem": AWAY}, ["ProviderUnavailable"]),
        ({"provider_problem": Problem("DayLimitReached", "until tomorrow")}, ["DayLimitReached"]),
        ({"provider_problem": Problem("ProviderThrottled", "until 12:00")}, ["ProviderThrottled"]),
        ({"refused": ("DeadLetterLimit", "there are 500")}, ["DeadLetterLimit"]),
        ({"jobs_refused": ("JobsRefused", "a quota")}, ["JobsRefused"]),
        ({"waiting_for": Problem("DatabaseUnavailable", "it is away")}, ["DatabaseUnavailable"]),
        ({"set_up": False}, ["SettingUp"]),
        ({"suspended": True, "provider_problem": AWAY}, ["Suspended"]),
        ({"refused": ("ColumnMissing", "the changed spec cannot run")}, ["NextSweep"]),
        ({"refused": ("ColumnMissing", "it cannot be set up"), "set_up": False}, ["ColumnMissing"]),
        ({}, ["NextSweep"]),
    ],
)
def test_what_stops_the_source_is_the_reason(facts: dict[str, Any], expected: list[str]) -> None:
    assert reasons(replace(WELL, **facts)) == expected


@pytest.mark.parametrize(
    ("row", "queue", "expected"),
    [
        (EDITED, {"room": 0, "window_free": 0}, ["WindowFull"]),
        (EDITED, {"room": 0}, ["FewJobsAllowed"]),
        (EDITED, {"left_out": LOCKED}, ["RowLocked"]),
        (EDITED, {"left_out": LOCKED, "room": 0, "window_free": 0}, ["RowLocked"]),
        (FOUND, {"backfilling": True}, ["Backfill"]),
        (EDITED, {"backfilling": True}, ["NextSweep"]),
        (FOUND, {}, ["NextSweep"]),
    ],
)
def test_otherwise_the_reason_is_the_row_or_what_is_before_it(
    row: RowFacts, queue: dict[str, Any], expected: list[str]
) -> None:
    assert reasons(row=row, queue=replace(FREE, **queue)) == expected


def test_what_stops_the_source_is_said_before_what_is_the_rows_own() -> None:
    suspended = replace(WELL, suspended=True)
    assert reasons(suspended, queue=replace(FREE, left_out=LOCKED)) == ["Suspended", "RowLocked"]
    assert reasons(suspended, FOUND, replace(FREE, backfilling=True)) == ["Suspended", "Backfill"]


@pytest.mark.parametrize(
    "row", [replace(EDITED, up_to_date=True), replace(EDITED, blank=True), replace(EDITED, exists=False)]
)
def test_a_due_row_that_needs_no_call_is_told_from_one_that_gets_a_job(row: RowFacts) -> None:
    ((_, sentence),) = why_no_job(WELL, row, FREE)
    assert "deletes its change marks" in sentence


def test_a_row_that_the_audit_has_not_come_to_says_so_also_while_its_source_is_suspended() -> None:
    row = RowFacts(exists=True)
    ((reason, sentence),) = why_not_marked(replace(WELL, suspended=True, audited_rows=70), row)
    assert (reason, sentence.count("70 rows")) == ("NotAudited", 1)
    assert "the first audit" in why_not_marked(replace(WELL, filled=False), row)[0][1]


def test_a_text_that_fails_is_the_reason_of_a_row_without_a_mark() -> None:
    ((reason, sentence),) = why_not_marked(WELL, RowFacts(exists=True, text_problem="PostgreSQL refuses it (22012)"))
    assert reason == "TextFails"
    assert "PostgreSQL refuses it (22012)" in sentence


def test_a_change_that_waits_for_approval_is_said_of_every_row() -> None:
    assert waits_for_approval(WELL) == []
    ((reason, _),) = waits_for_approval(replace(WELL, pending=Pending("other@8", 10, 100)))
    assert reason == "ApprovalNeeded"


def test_a_message_that_several_conditions_share_is_said_once() -> None:
    away = replace(WELL, waiting_for=Problem("DatabaseUnavailable", "it is away"), set_up=False)
    assert len(stopped_by(away)) == 1


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (EDITED, RowState.DUE),
        (replace(EDITED, up_to_date=True), RowState.DUE),
        (RowFacts(exists=True, up_to_date=True), RowState.UP_TO_DATE),
        (RowFacts(exists=True), RowState.NOT_MARKED),
        (RowFacts(), RowState.NO_SUCH_ROW),
        (replace(EDITED, exists=False), RowState.DUE),
    ],
)
def test_the_state_of_a_row(row: RowFacts, expected: RowState) -> None:
    assert row_state(row) is expected


@pytest.mark.parametrize(
    ("older", "newer", "edited", "backfilling", "before"),
    [
        (0, 9, True, False, 0),  # the oldest mark is the next
        (9, 0, True, False, 0),  # so is the newest edit
        (9, 2, True, False, 4),  # from the end of the newest edits, and as many from the other end
        (2, 9, True, False, 4),
        (9, 2, False, False, 11),  # all that are older, and the edits that are reached meanwhile
        (2, 9, False, False, 4),
        (9, 2, False, True, 9),  # a backfill reads the marks in their order
    ],
)
def test_the_place_follows_the_order_in_which_rows_get_jobs(
    older: int, newer: int, edited: bool, backfilling: bool, before: int
) -> None:
    found = place(RowsAround(older, newer), edited=edited, backfilling=backfilling, rows_per_s=None)
    assert found.before == before


@pytest.mark.parametrize(
    ("around", "edited", "backfilling", "at_least"),
    [
        (RowsAround(9, 2, more_older=True), True, False, False),  # it is reached from the other end
        (RowsAround(2, 9, more_newer=True), True, False, False),
        (RowsAround(9, 9, more_older=True), True, False, True),
        (RowsAround(9, 2, more_older=True), False, False, True),
        (RowsAround(9, 2, more_newer=True), False, False, True),
        (RowsAround(9, 2, more_newer=True), False, True, False),
    ],
)
def test_a_place_is_a_lower_bound_only_where_the_marks_that_count_were_not_all_counted(
    around: RowsAround, edited: bool, backfilling: bool, at_least: bool
) -> None:
    assert place(around, edited=edited, backfilling=backfilling, rows_per_s=None).at_least is at_least


@pytest.mark.parametrize(("before", "rate", "seconds"), [(0, 2.0, 1), (9, 2.0, 5), (9, 3.0, 4), (9, None, None)])
def test_the_estimate_needs_a_rate(before: int, rate: float | None, seconds: int | None) -> None:
    assert Place(before, False, rate).estimated_s == seconds


def test_the_answer_is_json_with_moments_as_kubernetes_writes_them() -> None:
    job = parse_job(job_body("1", Phase.RETRYING, attempts=2, nextAttemptTime="2026-03-01T12:00:04Z"))
    told = RowExplanation(
        "ns/shops",
        "1",
        "operator-1",
        AT,
        EDITED,
        JobFacts(job, "it is locked"),
        [LOCKED],
        Place(3, True, 0.512),
        (LastOutcome(AT, "Retrying", "RowsRefused", "refused", 2),),
    )
    answer = as_json(told)
    assert (answer["source"], answer["id"], answer["leader"]) == ("ns/shops", "1", "operator-1")
    assert (answer["row"]["state"], answer["row"]["foundBy"]) == ("Due", "Edit")
    assert answer["row"]["dueSince"] == "2026-03-01T12:00:00.000Z"
    assert answer["job"]["nextAttemptTime"] == "2026-03-01T12:00:04.000Z"
    assert (answer["job"]["attempts"], answer["job"]["message"]) == (2, "it is locked")
    assert answer["why"] == [{"reason": "RowLocked", "message": "it is locked"}]
    assert answer["queue"] == {"rowsBefore": 3, "atLeast": True, "rowsPerSecond": 0.51, "estimatedSeconds": 8}
    assert answer["lastOutcomes"][0]["phase"] == "Retrying"


def test_an_answer_about_a_source_that_is_not_set_up_has_no_row() -> None:
    answer = as_json(RowExplanation("ns/shops", "1", "", AT, None, None, [], None))
    assert (answer["row"], answer["job"], answer["queue"], answer["lastOutcomes"]) == (None, None, None, [])
