"""What happened to a row → the patch of its job. It decides only; kopf's handler and the sweep send it."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from embedding_operator.lifecycle.next_step import next_attempt
from embedding_operator.lifecycle.retry_policy import RetryPolicy
from embedding_operator.resources.embedding_job import BACKOFF_ANNOTATION, EmbeddingJob, Phase
from embedding_worker.outcome import OutcomeKind, RowOutcome

PHASES = {
    OutcomeKind.EMBEDDED: Phase.SUCCEEDED,
    OutcomeKind.ALREADY_FRESH: Phase.SUCCEEDED,
    OutcomeKind.BLANK_TEXT: Phase.SUCCEEDED,
    OutcomeKind.ROW_DELETED: Phase.SUPERSEDED,
    OutcomeKind.TEXT_CHANGED: Phase.SUPERSEDED,
    OutcomeKind.INPUT_REJECTED: Phase.DEAD_LETTERED,
    OutcomeKind.ID_INVALID: Phase.DEAD_LETTERED,
}
CHARGED = frozenset({OutcomeKind.EMBEDDED, OutcomeKind.INPUT_REJECTED, OutcomeKind.FAILED})
"""What counts as an attempt: the row was in a call of its own, or its call succeeded."""
HISTORY_KEPT = 10
# The CRD's bounds: a longer value would have the whole patch refused, and the row embedded again and again.
MOST_MESSAGE, MOST_REASON, MOST_CODE = 1024, 128, 64


@dataclass(frozen=True)
class JobPatch:
    """A merge patch of a job, in the two parts that are sent one after the other. The status is the truth."""

    status: dict[str, Any]
    annotations: dict[str, str | None] = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        return Phase(self.status["phase"])


def timestamp(moment: datetime) -> str:
    """As Kubernetes writes it, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def settled(
    outcome: RowOutcome, job: EmbeddingJob, *, policy: RetryPolicy, started: datetime, now: datetime, jitter: float
) -> JobPatch:
    """The patch of a job whose row has this outcome: finished, to be tried again after a pause, or a dead letter."""
    outcome = _bounded(outcome)
    attempts = job.status.attempts + (outcome.kind in CHARGED)
    status: dict[str, Any] = {"attempts": attempts, "startTime": timestamp(started)}
    if outcome.kind in (OutcomeKind.FAILED, OutcomeKind.INPUT_REJECTED):
        status["history"] = _history(job, outcome, now)
    if outcome.kind is OutcomeKind.FAILED and (retry := next_attempt(attempts, policy, now, jitter=jitter)) is not None:
        return _retrying(status, outcome, attempts, *retry)
    phase, reason, message = _end(outcome, attempts)
    latencies: dict[str, int] = {"totalMs": round((now - started).total_seconds() * 1000)}
    if outcome.embed_ms is not None:
        latencies["embedMs"] = outcome.embed_ms
    status |= {
        "phase": phase,
        "reason": reason,
        "message": message,
        "nextAttemptTime": None,
        "completionTime": timestamp(now),
        "latencies": latencies,
        "conditions": [_succeeded(str(phase is Phase.SUCCEEDED), reason, message, now)],
    }
    return JobPatch(status, {BACKOFF_ANNOTATION: None} if BACKOFF_ANNOTATION in job.metadata.annotations else {})


def _end(outcome: RowOutcome, attempts: int) -> tuple[Phase, str, str]:
    if outcome.kind is OutcomeKind.FAILED:
        message = f"failed {attempts} times, at last: {outcome.message} ({outcome.reason})"[:MOST_MESSAGE]
        return Phase.DEAD_LETTERED, "RetriesExhausted", message
    return PHASES[outcome.kind], outcome.reason, outcome.message


def _bounded(outcome: RowOutcome) -> RowOutcome:
    """A failure quotes others' words, in any length."""
    return replace(
        outcome,
        reason=outcome.reason[:MOST_REASON],
        message=outcome.message[:MOST_MESSAGE],
        code=outcome.code[:MOST_CODE],
    )


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


def _history(job: EmbeddingJob, outcome: RowOutcome, now: datetime) -> list[dict[str, Any]]:
    """The last attempts, this one at the end: when, why, and the provider's code. Never a text."""
    entry = {"time": timestamp(now), "reason": outcome.reason} | ({"code": outcome.code} if outcome.code else {})
    return [*job.status.history, entry][-HISTORY_KEPT:]


def replay_begun(job: EmbeddingJob, now: datetime) -> JobPatch:
    """The first act on a replay: the attempts start at 0 again, and nobody reads the old end as the new one."""
    message = "replayed: the attempts start at 0 again"
    return JobPatch(
        {
            "phase": Phase.PENDING,
            "attempts": 0,
            "replays": job.status.replays + 1,
            "reason": None,
            "message": None,
            "nextAttemptTime": None,
            "completionTime": None,
            "conditions": [_succeeded("Unknown", "Replayed", message, now)],
        },
        {BACKOFF_ANNOTATION: None} if BACKOFF_ANNOTATION in job.metadata.annotations else {},
    )


def superseded(*, row_gone: bool = False, now: datetime | None = None) -> dict[str, Any]:
    """The status of a job that gives way to the one of a newer text, or whose row is gone."""
    moment = now or datetime.now(UTC)
    reason, message = "TextChanged", "the text has changed since: the new one has a job of its own"
    if row_gone:
        reason, message = "RowDeleted", "the row is gone"
    return {
        "phase": Phase.SUPERSEDED,
        "reason": reason,
        "message": message,
        "nextAttemptTime": None,
        "completionTime": timestamp(moment),
        "conditions": [_succeeded("False", reason, message, moment)],
    }


def _succeeded(status: str, reason: str, message: str, now: datetime) -> dict[str, str]:
    """The one condition: `kubectl wait --for=condition=Succeeded` goes by it."""
    return {
        "type": "Succeeded",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": timestamp(now),
    }
