"""Which Events a backfill has, from the status that was written last and the one that is written now."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedding_operator.lifecycle.backfill_events import of_backfill
from embedding_operator.lifecycle.backfill_status import BackfillFacts, Backlog
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.lifecycle.source_status import status
from embedding_operator.resources.embedding_source import parse_source
from tests.support.manifests import a_source, merged

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SOURCE = parse_source(merged(a_source("businesses"), {"metadata": {"uid": "uid-of-the-source"}}))
NONE = SourceFacts(3, "any@8", set_up=True, filled=True)
ACTIVE = BackfillFacts(200, 50, 0, rows_per_s=10.0, workers=0, began_at=NOW)
ENDED = replace(ACTIVE, done=197, failed=3, rows_per_s=None, completed_at=NOW + timedelta(seconds=20))
PROBLEM = ("WorkersNotEnabled", "spec.backfill.workers is 3: set backfill.workers.enabled in the chart")
BACKLOG = Backlog(50_000, rows_per_s=40.0)
BEGUN = "a backfill has begun: 200 rows that no edit made due are embedded page by page, in the operator's process"
COMPLETED = (
    "the backfill has ended: 197 of 200 rows are done, and 3 have failed and got a job each; it took 0:00:20, at 10.0 "
    "rows a second"
)


def written(facts: BackfillFacts | None = None, backlog: Backlog | None = None) -> dict[str, Any]:
    return status(replace(NONE, backfill=facts, backlog=backlog), {}, NOW)


def emitted(before: dict[str, Any], after: dict[str, Any], advice: str | None = None) -> list[tuple[str, str]]:
    return [(event.type, event.reason) for event in of_backfill(SOURCE, before, after, index_advice=advice)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, written(), []),
        (written(), written(ACTIVE), [("Normal", "BackfillStarted")]),
        ({}, written(ACTIVE), [("Normal", "BackfillStarted")]),
        (written(ACTIVE), written(replace(ACTIVE, done=60)), []),
        (written(ACTIVE), written(replace(ACTIVE, paused=True)), []),
        (written(ACTIVE), written(ENDED), [("Normal", "BackfillCompleted")]),
        (written(), written(ENDED), [("Normal", "BackfillCompleted")]),
        (written(ENDED), written(ENDED), []),
        (written(ENDED), written(replace(ACTIVE, began_at=NOW + timedelta(hours=1))), [("Normal", "BackfillStarted")]),
        (written(ACTIVE), written(replace(ACTIVE, problem=PROBLEM)), [("Warning", "WorkersNotEnabled")]),
        (written(replace(ACTIVE, problem=PROBLEM)), written(replace(ACTIVE, problem=PROBLEM)), []),
        (written(ACTIVE), written(replace(ACTIVE, problem=("WorkersStarting", "no worker has reported"))), []),
        (written(), written(backlog=BACKLOG), [("Normal", "LargeBacklogInJobs")]),
        (written(backlog=BACKLOG), written(backlog=replace(BACKLOG, rows_per_s=10.0)), []),
        (written(backlog=BACKLOG), written(), []),
    ],
    ids=[
        "nothing",
        "begun",
        "begun at the first status",
        "goes on",
        "paused",
        "ended",
        "begun and ended between two writes",
        "ended before",
        "another one",
        "cannot run",
        "still cannot run",
        "not at work yet",
        "many jobs",
        "many jobs with another estimate",
        "few jobs again",
    ],
)
def test_a_backfill_has_an_event_where_its_status_changes(
    before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert emitted(before, after) == expected


def test_the_events_say_how_many_rows_how_long_and_how_fast() -> None:
    (begun,) = of_backfill(SOURCE, written(), written(ACTIVE))
    (ended,) = of_backfill(SOURCE, written(ACTIVE), written(ENDED))
    assert (begun.note, ended.note) == (BEGUN, COMPLETED)
    assert begun.regarding["uid"] == "uid-of-the-source"


@pytest.mark.parametrize(
    ("workers", "facts", "where"),
    [
        (0, ACTIVE, "in the operator's process"),
        (1, ACTIVE, "by 1 worker"),
        (3, replace(ACTIVE, workers=3), "by 3 workers"),
        (3, replace(ACTIVE, problem=PROBLEM), "as soon as its 3 workers run: see the condition Backfilling"),
    ],
    ids=["in this process", "one worker", "workers", "workers that do not run"],
)
def test_the_event_of_the_begin_says_where_the_backfill_runs(workers: int, facts: BackfillFacts, where: str) -> None:
    source = parse_source(a_source("businesses", backfill={"workers": workers}))
    begun = of_backfill(source, written(), written(facts))[0]
    assert begun.note.endswith(f"page by page, {where}")


def test_without_a_failed_row_the_end_names_none() -> None:
    (ended,) = of_backfill(SOURCE, written(ACTIVE), written(replace(ENDED, done=200, failed=0)))
    assert "200 of 200 rows are done; it took" in ended.note


def test_the_event_of_a_large_backlog_says_how_long_and_what_auto_would_do() -> None:
    (event,) = of_backfill(SOURCE, written(), written(backlog=BACKLOG))
    assert "about 20 minutes" in event.note
    assert "spec.backfill.mode Auto" in event.note


@pytest.mark.parametrize(
    ("before", "after", "advised"),
    [
        (written(), written(ACTIVE), True),
        (written(ACTIVE), written(ENDED), True),
        (written(ACTIVE), written(replace(ACTIVE, done=60)), False),
        (written(), written(backlog=BACKLOG), False),
    ],
    ids=["begun", "ended", "goes on", "many jobs"],
)
def test_advice_about_indexes_is_given_at_the_begin_and_at_the_end(
    before: dict[str, Any], after: dict[str, Any], advised: bool
) -> None:
    assert (("Normal", "IndexAdvice") in emitted(before, after, "CREATE INDEX")) is advised


def test_a_restart_repeats_no_event() -> None:
    stored = written(ACTIVE)
    assert emitted(stored, written(replace(ACTIVE, done=60)), "CREATE INDEX") == []


def test_a_status_that_somebody_else_has_broken_raises_no_error() -> None:
    after = written(ENDED)
    after["backfill"]["beganAt"] = "soon"
    (ended,) = of_backfill(SOURCE, {"backfill": None, "conditions": []}, after)
    assert "its duration is not known" in ended.note
