"""What happened to a row → the patch of its job's status. It decides only; kopf's handler and the sweep send it."""

from datetime import UTC, datetime
from typing import Any

from embedding_operator.resources.embedding_job import Phase
from embedding_worker.freshen import OutcomeKind, RowOutcome

PHASES = {
    OutcomeKind.EMBEDDED: Phase.SUCCEEDED,
    OutcomeKind.ALREADY_FRESH: Phase.SUCCEEDED,
    OutcomeKind.BLANK_TEXT: Phase.SUCCEEDED,
    OutcomeKind.ROW_DELETED: Phase.SUPERSEDED,
    OutcomeKind.TEXT_CHANGED: Phase.SUPERSEDED,
    OutcomeKind.INPUT_REJECTED: Phase.DEAD_LETTERED,
}


def timestamp(moment: datetime) -> str:
    """As Kubernetes writes it, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def settled(outcome: RowOutcome, *, attempts: int, started: datetime, now: datetime) -> dict[str, Any]:
    """The status of a job whose row has this outcome."""
    phase = PHASES[outcome.kind]
    tried = outcome.kind in (OutcomeKind.EMBEDDED, OutcomeKind.INPUT_REJECTED)
    latencies: dict[str, int] = {"totalMs": round((now - started).total_seconds() * 1000)}
    if outcome.embed_ms is not None:
        latencies["embedMs"] = outcome.embed_ms
    return {
        "phase": phase,
        "attempts": attempts + tried,
        "reason": outcome.reason,
        "message": outcome.message,
        "nextAttemptTime": None,
        "startTime": timestamp(started),
        "completionTime": timestamp(now),
        "latencies": latencies,
        "conditions": [_succeeded(phase is Phase.SUCCEEDED, outcome.reason, outcome.message, now)],
    }


def superseded(now: datetime | None = None) -> dict[str, Any]:
    """The status of a job that gives way to the one of a newer text."""
    moment = now or datetime.now(UTC)
    reason, message = "TextChanged", "the text has changed since: the new one has a job of its own"
    return {
        "phase": Phase.SUPERSEDED,
        "reason": reason,
        "message": message,
        "nextAttemptTime": None,
        "completionTime": timestamp(moment),
        "conditions": [_succeeded(False, reason, message, moment)],
    }


def _succeeded(status: bool, reason: str, message: str, now: datetime) -> dict[str, str]:
    """The one condition: `kubectl wait --for=condition=Succeeded` goes by it."""
    return {
        "type": "Succeeded",
        "status": str(status),
        "reason": reason,
        "message": message,
        "lastTransitionTime": timestamp(now),
    }
