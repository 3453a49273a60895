"""Decides the status of a job from what happened to its row. Pure; job_runner.py and the sweep send the result.

The only place where attempts are counted: kopf's own retries are never used.
"""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from embedding_operator.lifecycle.retry_policy import next_attempt
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import BACKOFF_ANNOTATION, EmbeddingJob, Phase
from embedding_operator.resources.embedding_source import RetrySpec
from embedding_worker.outcome import FIRST_LOCKED_PAUSE_S, OutcomeKind, RowOutcome
from embedding_worker.rows.records import LastOutcome

PHASES = {
    OutcomeKind.EMBEDDED: Phase.SUCCEEDED,
    OutcomeKind.ALREADY_FRESH: Phase.SUCCEEDED,
    OutcomeKind.BLANK_TEXT: Phase.SUCCEEDED,
    OutcomeKind.ROW_DELETED: Phase.SUPERSEDED,
    OutcomeKind.TEXT_CHANGED: Phase.SUPERSEDED,
    OutcomeKind.ID_INVALID: Phase.SUPERSEDED,
    OutcomeKind.INPUT_REJECTED: Phase.DEAD_LETTERED,
    OutcomeKind.TEXT_EXPRESSION_FAILED: Phase.DEAD_LETTERED,
    OutcomeKind.UPDATE_SUPPRESSED: Phase.DEAD_LETTERED,
}
FAILURES = frozenset(
    {
        OutcomeKind.INPUT_REJECTED,
        OutcomeKind.TEXT_EXPRESSION_FAILED,
        OutcomeKind.UPDATE_SUPPRESSED,
        OutcomeKind.FAILED,
    }
)
ATTEMPTS = FAILURES | {OutcomeKind.EMBEDDED}
"""Outcomes that count as an attempt: the call succeeded, or the failure was attributed to the row."""
HISTORY_KEPT = 10
# The CRD's bounds: with a longer value the API server would refuse the whole patch.
MAX_MESSAGE, MAX_REASON, MAX_CODE = 1024, 128, 64


@dataclass(frozen=True)
class JobPatch:
    """A merge patch of a job, in the two requests that it takes: annotations first, then the status, which counts."""

    status: dict[str, Any]
    annotations: dict[str, str | None] = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        return Phase(self.status["phase"])

    def last_outcome(self, now: datetime, *, before: str | None) -> LastOutcome | None:
        """For the record of the row's last outcomes; None for a success, of which the row's state says when it was.

        `before`: the reason that the job's status had. A row that is still locked is recorded once, as it is not an attempt.
        """
        status = self.status
        if self.phase is Phase.SUCCEEDED or status["reason"] == before == OutcomeKind.ROW_LOCKED.value:
            return None
        return LastOutcome(now, self.phase.value, status["reason"], status["message"], status.get("attempts", 0))


def settled(
    outcome: RowOutcome, job: EmbeddingJob, *, policy: RetrySpec, started: datetime, now: datetime, jitter: float
) -> JobPatch:
    """The patch of a job whose row has this outcome: finished, to be tried again after a pause, or a dead letter."""
    outcome = _bounded(outcome)
    attempts = job.status.attempts + (outcome.kind in ATTEMPTS)
    status: dict[str, Any] = {"attempts": attempts, "startTime": timestamp(started)}
    if outcome.kind in FAILURES:
        status["history"] = _history(job, outcome, now)
    if outcome.kind is OutcomeKind.FAILED and (retry := next_attempt(attempts, policy, now, jitter=jitter)) is not None:
        return _retrying(status, outcome, attempts, *retry)
    if outcome.kind is OutcomeKind.ROW_LOCKED:
        pause_s = FIRST_LOCKED_PAUSE_S if outcome.retry_after_s is None else outcome.retry_after_s
        return _retrying(status, outcome, attempts, now + timedelta(seconds=pause_s), pause_s)
    phase, reason, message = _end(outcome, attempts)
    return JobPatch(status | _ended(phase, reason, message, now), _no_backoff(job))


def replay_begun(job: EmbeddingJob, now: datetime) -> JobPatch:
    """The first patch of a replay: the attempts start at 0 again, and the fields of the earlier end are cleared."""
    message = "replayed: the attempts start at 0 again"
    status = {
        "phase": Phase.PENDING,
        "attempts": 0,
        "replays": job.status.replays + 1,
        "reason": None,
        "message": None,
        "nextAttemptTime": None,
        "completionTime": None,
        "conditions": [_succeeded("Unknown", "Replayed", message, now)],
    }
    return JobPatch(status, _no_backoff(job))


def superseded(*, row_gone: bool, now: datetime) -> dict[str, Any]:
    """The status of a job whose row was deleted, or whose text has changed so that it gets another job."""
    if row_gone:
        return _ended(Phase.SUPERSEDED, "RowDeleted", "the row was deleted", now)
    return _ended(Phase.SUPERSEDED, "TextChanged", "the text has changed: the new text has its own job", now)


def _end(outcome: RowOutcome, attempts: int) -> tuple[Phase, str, str]:
    if outcome.kind is OutcomeKind.FAILED:
        message = f"failed {attempts} times; the last failure: {outcome.message} ({outcome.reason})"
        return Phase.DEAD_LETTERED, "RetriesExhausted", message[:MAX_MESSAGE]
    return PHASES[outcome.kind], outcome.reason, outcome.message


def _ended(phase: Phase, reason: str, message: str, now: datetime) -> dict[str, Any]:
    return {
        "phase": phase,
        "reason": reason,
        "message": message,
        "nextAttemptTime": None,
        "completionTime": timestamp(now),
        "conditions": [_succeeded(str(phase is Phase.SUCCEEDED), reason, message, now)],
    }


def _retrying(
    status: dict[str, Any], outcome: RowOutcome, attempts: int, not_before: datetime, pause_s: float
) -> JobPatch:
    status |= {
        "phase": Phase.RETRYING,
        "reason": outcome.reason,
        "message": outcome.message,
        "nextAttemptTime": timestamp(not_before),
    }
    backoff = {"attempt": attempts + 1, "delaySeconds": round(pause_s, 1), "notBefore": timestamp(not_before)}
    return JobPatch(status, {BACKOFF_ANNOTATION: json.dumps(backoff)})


def _no_backoff(job: EmbeddingJob) -> dict[str, str | None]:
    return {BACKOFF_ANNOTATION: None} if BACKOFF_ANNOTATION in job.metadata.annotations else {}


def _bounded(outcome: RowOutcome) -> RowOutcome:
    """The outcome within the CRD's bounds: a failure quotes the words of others, in any length."""
    return replace(
        outcome,
        reason=outcome.reason[:MAX_REASON],
        message=outcome.message[:MAX_MESSAGE],
        code=outcome.code[:MAX_CODE],
    )


def _history(job: EmbeddingJob, outcome: RowOutcome, now: datetime) -> list[dict[str, Any]]:
    """The last failed attempts, this one at the end: when, why, and the provider's code. Never a text."""
    entry = {"time": timestamp(now), "reason": outcome.reason} | ({"code": outcome.code} if outcome.code else {})
    return [*job.status.history, entry][-HISTORY_KEPT:]


def _succeeded(status: str, reason: str, message: str, now: datetime) -> dict[str, str]:
    """The one condition of a job: `kubectl wait --for=condition=Succeeded` reads it."""
    return {
        "type": "Succeeded",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": timestamp(now),
    }
