"""What happened to a row, as the status of its job."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from embedding_operator.lifecycle.job_status import PHASES, settled, superseded, timestamp
from embedding_operator.resources.embedding_job import Phase
from embedding_worker.freshen import OutcomeKind, RowOutcome, outcome

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW = STARTED + timedelta(seconds=1.25)


@pytest.mark.parametrize(
    ("kind", "phase", "attempts", "succeeded"),
    [
        (OutcomeKind.EMBEDDED, Phase.SUCCEEDED, 3, "True"),
        (OutcomeKind.ALREADY_FRESH, Phase.SUCCEEDED, 2, "True"),
        (OutcomeKind.BLANK_TEXT, Phase.SUCCEEDED, 2, "True"),
        (OutcomeKind.ROW_DELETED, Phase.SUPERSEDED, 2, "False"),
        (OutcomeKind.TEXT_CHANGED, Phase.SUPERSEDED, 2, "False"),
        (OutcomeKind.INPUT_REJECTED, Phase.DEAD_LETTERED, 3, "False"),
    ],
    ids=lambda value: value.value if isinstance(value, OutcomeKind) else "",
)
def test_each_outcome_has_its_phase(kind: OutcomeKind, phase: Phase, attempts: int, succeeded: str) -> None:
    happened = outcome(kind)
    made = settled(happened, attempts=2, started=STARTED, now=NOW)
    assert (made["phase"], made["attempts"]) == (phase, attempts)
    assert (made["reason"], made["message"]) == (happened.reason, happened.message)
    assert made["conditions"] == [
        {
            "type": "Succeeded",
            "status": succeeded,
            "reason": happened.reason,
            "message": happened.message,
            "lastTransitionTime": "2026-03-01T12:00:01.250Z",
        }
    ]


def test_every_kind_of_outcome_has_a_phase_and_none_is_left_open() -> None:
    assert set(PHASES) == set(OutcomeKind)
    assert set(PHASES.values()) == {Phase.SUCCEEDED, Phase.SUPERSEDED, Phase.DEAD_LETTERED}


def test_a_settled_job_says_when_it_was_begun_and_finished_and_waits_for_nothing() -> None:
    made = settled(outcome(OutcomeKind.EMBEDDED), attempts=0, started=STARTED, now=NOW)
    assert made["startTime"] == "2026-03-01T12:00:00.000Z"
    assert made["completionTime"] == "2026-03-01T12:00:01.250Z"
    assert made["nextAttemptTime"] is None


def test_latencies_tell_of_the_call_where_there_was_one() -> None:
    called = settled(outcome(OutcomeKind.EMBEDDED, embed_ms=7), attempts=0, started=STARTED, now=NOW)
    assert called["latencies"] == {"totalMs": 1250, "embedMs": 7}
    not_called = settled(outcome(OutcomeKind.ALREADY_FRESH), attempts=0, started=STARTED, now=NOW)
    assert not_called["latencies"] == {"totalMs": 1250}


def test_a_rejection_says_its_own_reason() -> None:
    rejected = RowOutcome(OutcomeKind.INPUT_REJECTED, "TextTooLong", "the text has 9,000 bytes, the model takes 8,192")
    made = settled(rejected, attempts=0, started=STARTED, now=NOW)
    assert (made["reason"], made["conditions"][0]["reason"]) == ("TextTooLong", "TextTooLong")


def test_a_job_that_gives_way_waits_for_nothing_and_did_not_succeed() -> None:
    made = superseded(NOW)
    assert (made["phase"], made["reason"], made["nextAttemptTime"]) == (Phase.SUPERSEDED, "TextChanged", None)
    assert made["completionTime"] == "2026-03-01T12:00:01.250Z"
    assert made["conditions"][0]["status"] == "False"


def test_a_timestamp_is_utc_to_the_millisecond() -> None:
    elsewhere = datetime(2026, 3, 1, 14, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(elsewhere) == "2026-03-01T12:00:00.123Z"
