"""What happened to a row, as the status of its job."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import yaml

from embedding_operator.lifecycle.job_status import (
    HISTORY_KEPT,
    PHASES,
    JobPatch,
    replay_begun,
    settled,
    superseded,
)
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import BACKOFF_ANNOTATION, EmbeddingJob, Phase, parse_job
from embedding_operator.resources.embedding_source import RetrySpec
from embedding_worker.outcome import OutcomeKind, RowOutcome, outcome, row_locked
from tests.support.manifests import CRDS, Json, a_job, merged

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW = STARTED + timedelta(seconds=1.25)
POLICY = RetrySpec()
AWAY = RowOutcome(OutcomeKind.FAILED, "ProviderUnavailable", "the server is away", code="503 UNAVAILABLE")
TOO_LONG = RowOutcome(OutcomeKind.INPUT_REJECTED, "TextTooLong", "the text has 9,000 bytes, the model takes 8,192")


def a_job_with(*, annotated: bool = False, **status: Any) -> EmbeddingJob:
    body = a_job("any") | {"status": {"phase": "Pending", "attempts": 0} | status}
    if annotated:
        body["metadata"]["annotations"] = {BACKOFF_ANNOTATION: "{}"}
    return parse_job(body)


def patch_of(
    happened: RowOutcome,
    job: EmbeddingJob | None = None,
    *,
    policy: RetrySpec = POLICY,
    jitter: float = 0,
) -> JobPatch:
    return settled(happened, job or a_job_with(), policy=policy, started=STARTED, now=NOW, jitter=jitter)


@pytest.mark.parametrize(
    ("kind", "phase", "attempts", "succeeded"),
    [
        (OutcomeKind.EMBEDDED, Phase.SUCCEEDED, 3, "True"),
        (OutcomeKind.ALREADY_FRESH, Phase.SUCCEEDED, 2, "True"),
        (OutcomeKind.BLANK_TEXT, Phase.SUCCEEDED, 2, "True"),
        (OutcomeKind.ROW_DELETED, Phase.SUPERSEDED, 2, "False"),
        (OutcomeKind.TEXT_CHANGED, Phase.SUPERSEDED, 2, "False"),
        (OutcomeKind.ID_INVALID, Phase.SUPERSEDED, 2, "False"),
        (OutcomeKind.INPUT_REJECTED, Phase.DEAD_LETTERED, 3, "False"),
    ],
    ids=lambda value: value.value if isinstance(value, OutcomeKind) else "",
)
def test_each_outcome_has_its_phase(kind: OutcomeKind, phase: Phase, attempts: int, succeeded: str) -> None:
    happened = RowOutcome(kind, kind.value, "what it says")
    patch = patch_of(happened, a_job_with(attempts=2))
    made = patch.status
    assert (made["phase"], patch.phase, made["attempts"]) == (phase, phase, attempts)
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


def test_every_kind_of_outcome_but_a_failure_has_one_phase_and_none_is_left_open() -> None:
    assert set(PHASES) == set(OutcomeKind) - {OutcomeKind.FAILED, OutcomeKind.ROW_LOCKED}
    assert set(PHASES.values()) == {Phase.SUCCEEDED, Phase.SUPERSEDED, Phase.DEAD_LETTERED}


def test_a_locked_row_waits_without_an_attempt() -> None:
    made = patch_of(row_locked(STARTED, STARTED))
    assert (made.status["phase"], made.status["attempts"], made.status["reason"]) == (Phase.RETRYING, 0, "RowLocked")
    assert made.status["nextAttemptTime"] == "2026-03-01T12:00:16.250Z"


@pytest.mark.parametrize("kind", [OutcomeKind.TEXT_EXPRESSION_FAILED, OutcomeKind.UPDATE_SUPPRESSED])
def test_what_would_fail_again_is_a_dead_letter_at_once(kind: OutcomeKind) -> None:
    made = patch_of(RowOutcome(kind, kind.value, "why"))
    assert (made.phase, made.status["reason"], made.status["attempts"]) == (Phase.DEAD_LETTERED, kind.value, 1)


def test_a_settled_job_says_when_it_started_and_finished_and_has_no_next_attempt() -> None:
    made = patch_of(outcome(OutcomeKind.EMBEDDED)).status
    assert made["startTime"] == "2026-03-01T12:00:00.000Z"
    assert made["completionTime"] == "2026-03-01T12:00:01.250Z"
    assert made["nextAttemptTime"] is None


def test_a_success_sends_what_people_read_and_nothing_else() -> None:
    made = patch_of(outcome(OutcomeKind.EMBEDDED)).status
    shown = {"phase", "attempts", "reason", "message", "startTime", "completionTime", "conditions"}
    assert {field for field, value in made.items() if value is not None} == shown


def test_a_rejection_is_a_dead_letter_at_once_with_its_own_reason() -> None:
    made = patch_of(TOO_LONG).status
    assert (made["phase"], made["attempts"]) == (Phase.DEAD_LETTERED, 1)
    assert (made["reason"], made["conditions"][0]["reason"]) == ("TextTooLong", "TextTooLong")


def test_a_failure_is_tried_again_after_a_pause() -> None:
    patch = patch_of(AWAY, a_job_with(attempts=1))
    assert (patch.phase, patch.status["attempts"]) == (Phase.RETRYING, 2)
    assert patch.status["nextAttemptTime"] == "2026-03-01T12:00:05.250Z"
    assert (patch.status["reason"], patch.status["message"]) == ("ProviderUnavailable", "the server is away")


def test_the_backoff_annotation_names_the_next_attempt_and_its_time() -> None:
    backoff = patch_of(AWAY, a_job_with(attempts=1), jitter=1).annotations[BACKOFF_ANNOTATION]
    assert backoff is not None
    assert json.loads(backoff) == {"attempt": 3, "delaySeconds": 4.4, "notBefore": "2026-03-01T12:00:05.650Z"}


def test_the_annotation_and_the_status_name_the_same_moment() -> None:
    patch = patch_of(AWAY, jitter=0.37)
    assert json.loads(patch.annotations[BACKOFF_ANNOTATION] or "")["notBefore"] == patch.status["nextAttemptTime"]


def test_a_retrying_job_is_neither_finished_nor_failed_yet() -> None:
    assert not {"completionTime", "conditions"} & set(patch_of(AWAY).status)


def test_the_policy_of_the_source_is_the_one_that_counts() -> None:
    policy = RetrySpec(max_attempts=2, initial_seconds=7)
    assert patch_of(AWAY, policy=policy).status["nextAttemptTime"] == "2026-03-01T12:00:08.250Z"
    assert patch_of(AWAY, a_job_with(attempts=1), policy=policy).phase is Phase.DEAD_LETTERED


def test_the_last_failure_makes_a_dead_letter_that_says_how_often_and_why() -> None:
    made = patch_of(AWAY, a_job_with(phase="Retrying", attempts=5)).status
    assert (made["phase"], made["attempts"], made["reason"]) == (Phase.DEAD_LETTERED, 6, "RetriesExhausted")
    assert made["message"] == "failed 6 times; the last failure: the server is away (ProviderUnavailable)"
    assert (made["nextAttemptTime"], made["conditions"][0]["status"]) == (None, "False")


def test_each_failure_is_one_entry_at_the_end_of_the_history() -> None:
    before = [{"time": "2026-03-01T11:59:00Z", "reason": "DatabaseRefused"}]
    made = patch_of(AWAY, a_job_with(attempts=1, history=before)).status
    now = {"time": "2026-03-01T12:00:01.250Z", "reason": "ProviderUnavailable", "code": "503 UNAVAILABLE"}
    assert made["history"] == [*before, now]


def test_a_history_names_a_code_only_where_there_is_one() -> None:
    assert patch_of(TOO_LONG).status["history"] == [{"time": "2026-03-01T12:00:01.250Z", "reason": "TextTooLong"}]


def test_a_history_keeps_the_last_ten_in_their_order() -> None:
    before = [{"time": "2026-03-01T11:59:00Z", "reason": f"Reason{n}"} for n in range(HISTORY_KEPT)]
    made = patch_of(AWAY, a_job_with(attempts=1, history=before)).status
    assert [entry["reason"] for entry in made["history"]] == [
        *(f"Reason{n}" for n in range(1, HISTORY_KEPT)),
        "ProviderUnavailable",
    ]


def test_a_history_that_is_null_is_an_empty_one() -> None:
    assert len(patch_of(AWAY, a_job_with(history=None)).status["history"]) == 1


def test_a_success_after_retries_keeps_the_attempts_and_the_history_and_removes_the_backoff() -> None:
    before = [{"time": "2026-03-01T11:59:00Z", "reason": "ProviderUnavailable"}]
    patch = patch_of(
        outcome(OutcomeKind.EMBEDDED), a_job_with(annotated=True, phase="Retrying", attempts=2, history=before)
    )
    assert (patch.phase, patch.status["attempts"]) == (Phase.SUCCEEDED, 3)
    assert patch.annotations == {BACKOFF_ANNOTATION: None}
    assert "history" not in patch.status


def test_a_job_that_succeeds_at_once_costs_no_patch_of_its_annotations() -> None:
    assert patch_of(outcome(OutcomeKind.EMBEDDED)).annotations == {}


def test_a_dead_letter_keeps_no_backoff() -> None:
    patch = patch_of(AWAY, a_job_with(annotated=True, phase="Retrying", attempts=5))
    assert patch.annotations == {BACKOFF_ANNOTATION: None}


DEAD: Json = {
    "phase": "Pending",
    "attempts": 6,
    "replays": 1,
    "reason": "RetriesExhausted",
    "message": "failed 6 times",
    "completionTime": "2026-03-01T11:59:00Z",
    "history": [{"time": "2026-03-01T11:59:00Z", "reason": "ProviderUnavailable"}],
}


def test_a_replay_starts_at_no_attempts_and_removes_the_old_end() -> None:
    made = replay_begun(a_job_with(**DEAD), NOW).status
    assert (made["phase"], made["attempts"], made["replays"]) == (Phase.PENDING, 0, 2)
    gone = ("reason", "message", "nextAttemptTime", "completionTime")
    assert {key: made[key] for key in gone} == dict.fromkeys(gone)


def test_a_replay_keeps_the_history() -> None:
    assert merged(DEAD, replay_begun(a_job_with(**DEAD), NOW).status)["history"] == DEAD["history"]


def test_the_condition_of_a_replay_is_not_the_one_of_the_old_end() -> None:
    (condition,) = replay_begun(a_job_with(**DEAD), NOW).status["conditions"]
    assert (condition["status"], condition["reason"]) == ("Unknown", "Replayed")


def test_a_replay_removes_the_backoff_of_an_earlier_attempt() -> None:
    assert replay_begun(a_job_with(annotated=True, **DEAD), NOW).annotations == {BACKOFF_ANNOTATION: None}
    assert replay_begun(a_job_with(**DEAD), NOW).annotations == {}


def test_a_superseded_job_has_no_next_attempt_and_did_not_succeed() -> None:
    made = superseded(row_gone=False, now=NOW)
    assert (made["phase"], made["reason"], made["nextAttemptTime"]) == (Phase.SUPERSEDED, "TextChanged", None)
    assert made["completionTime"] == "2026-03-01T12:00:01.250Z"
    assert made["conditions"][0]["status"] == "False"


def test_a_job_whose_row_was_deleted_is_superseded_and_says_so() -> None:
    made = superseded(row_gone=True, now=NOW)
    assert (made["phase"], made["reason"], made["message"]) == (Phase.SUPERSEDED, "RowDeleted", "the row was deleted")


def test_a_timestamp_is_utc_to_the_millisecond() -> None:
    elsewhere = datetime(2026, 3, 1, 14, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(elsewhere) == "2026-03-01T12:00:00.123Z"


def status_schema() -> Json:
    crd = yaml.safe_load((CRDS / "embeddingjobs.yaml").read_text())
    schema: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    return schema


TYPES = {"object": dict, "array": list, "string": str, "integer": int}


def violations(value: Any, schema: Json, path: str = "status") -> list[str]:
    """Where a value is not as the schema has it: types, fields, enumerations and bounds."""
    if value is None:
        return [] if schema.get("nullable") else [f"{path} is null"]
    if not isinstance(value, TYPES[schema["type"]]):
        return [f"{path} is no {schema['type']}"]
    found: list[str] = []
    if isinstance(value, dict):
        found += [f"{path}.{key} is missing" for key in schema.get("required", ()) if key not in value]
        for key, part in value.items():
            known = schema["properties"].get(key)
            found += [f"{path}.{key} is unknown"] if known is None else violations(part, known, f"{path}.{key}")
    elif isinstance(value, list):
        found += [f"{path} is too long"] if len(value) > schema.get("maxItems", len(value)) else []
        found += [problem for part in value for problem in violations(part, schema["items"], f"{path}[]")]
    elif isinstance(value, str):
        found += [f"{path} is {value}"] if value not in schema.get("enum", (value,)) else []
        found += [f"{path} is too long"] if len(value) > schema.get("maxLength", len(value)) else []
        is_time = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value)
        found += [f"{path} is no time"] if schema.get("format") == "date-time" and not is_time else []
    else:
        found += [f"{path} is too small"] if value < schema.get("minimum", value) else []
    return found


A_LONG_HISTORY = [{"time": timestamp(NOW), "reason": f"Reason{n}", "code": "503"} for n in range(HISTORY_KEPT)]
PATCHES = {
    **{
        kind.value: patch_of(RowOutcome(kind, kind.value, "a sentence")).status
        for kind in OutcomeKind
        if kind is not OutcomeKind.ROW_LOCKED
    },
    "RowLocked": patch_of(row_locked(STARTED, STARTED)).status,
    "the tenth retry": patch_of(AWAY, a_job_with(history=A_LONG_HISTORY)).status,
    "RetriesExhausted": patch_of(AWAY, a_job_with(attempts=5, history=A_LONG_HISTORY)).status,
    "replayed": replay_begun(a_job_with(**DEAD), NOW).status,
    "superseded": superseded(row_gone=False, now=NOW),
    "row gone": superseded(row_gone=True, now=NOW),
}


@pytest.mark.parametrize("status", PATCHES.values(), ids=PATCHES.keys())
def test_what_is_written_is_what_the_crd_allows(status: Json) -> None:
    assert violations(status, status_schema()) == []
