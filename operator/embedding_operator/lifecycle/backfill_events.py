"""Decides which Kubernetes Events a backfill has: its begin, its end, what stops it, and advice about indexes. Pure.

Called by status_report.py with the status that was written last and the one that is written now. So a restart of the operator
repeats no Event.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from embedding_operator.lifecycle import backfill_status
from embedding_operator.lifecycle.backfill_status import BACKFILLING, COMPLETED, LARGE_BACKLOG, NO_BACKFILL
from embedding_operator.lifecycle.events import NORMAL, WARNING, Event, about_source
from embedding_operator.resources.base import parsed_timestamp
from embedding_operator.resources.embedding_source import EmbeddingSource

Status = Mapping[str, Any]
SILENT = frozenset({NO_BACKFILL, COMPLETED, "WorkersStarting", "WorkersQueued"})
"""Reasons that have no event of their own, because nobody has to know or to act."""


def of_backfill(
    source: EmbeddingSource, before: Status, after: Status, *, index_advice: str | None = None
) -> list[Event]:
    """The events of a source whose written status changes from `before` to `after`.

    `index_advice` is sent with the begin and with the end of a backfill, and is what is right at that moment.
    """
    where = _where(source, _backfilling(after))
    events = _began_or_ended(source, before.get("backfill") or {}, after.get("backfill") or {}, where)
    if events and index_advice is not None:
        events.append(about_source(source, "AdviseIndex", NORMAL, "IndexAdvice", index_advice))
    return events + _of_condition(source, _backfilling(before), _backfilling(after))


def _began_or_ended(source: EmbeddingSource, before: Status, after: Status, where: str) -> list[Event]:
    began_at, completed_at = after.get("beganAt"), after.get("completedAt")
    is_new = began_at != before.get("beganAt")
    if began_at is None or (not is_new and completed_at == before.get("completedAt")):
        return []
    if completed_at is None:
        note = f"a backfill has begun: {after['total']} rows that no edit made due are embedded page by page, {where}"
        return [about_source(source, "BeginBackfill", NORMAL, "BackfillStarted", note)]
    failed = f", and {after['failed']} have failed and got a job each" if after["failed"] else ""
    note = f"the backfill has ended: {after['done']} of {after['total']} rows are done{failed}; {_duration(after)}"
    return [about_source(source, "EndBackfill", NORMAL, "BackfillCompleted", note)]


def _where(source: EmbeddingSource, condition: Status) -> str:
    """Where the backfill runs. If workers do not run, or not yet, the condition says why."""
    workers = source.spec.backfill.workers
    if workers and condition["status"] == "False":
        return f"as soon as its {workers} worker{'s run' if workers > 1 else ' runs'}: see the condition {BACKFILLING}"
    return backfill_status.where(workers)


def _duration(backfill: Status) -> str:
    began_at, completed_at = (parsed_timestamp(backfill[field]) for field in ("beganAt", "completedAt"))
    if began_at is None or completed_at is None:  # a status that somebody else has written
        return "its duration is not known"
    took = timedelta(seconds=round((completed_at - began_at).total_seconds()))
    return f"it took {took}, at {backfill['rowsPerSecond']} rows a second"


def _backfilling(status: Status) -> Status:
    found = [condition for condition in status.get("conditions", ()) if condition["type"] == BACKFILLING]
    return found[0] if found else {"status": "Unknown", "reason": ""}


def _of_condition(source: EmbeddingSource, before: Status, after: Status) -> list[Event]:
    reason = after["reason"]
    if after["status"] != "False" or reason in (before["reason"], *SILENT):
        return []
    kind = NORMAL if reason == LARGE_BACKLOG else WARNING
    return [about_source(source, BACKFILLING, kind, reason, after["message"])]
