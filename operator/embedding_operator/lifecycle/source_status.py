"""Decides a source's status, and when it is worth a write. Pure; called by reconciler/status_report.py, which writes it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from embedding_operator.lifecycle import backfill_status, source_summary, usage_status
from embedding_operator.lifecycle.condition import Condition
from embedding_operator.lifecycle.model_in_force import recorded
from embedding_operator.lifecycle.source_conditions import REEMBED_REQUIRED, SETTING_UP, conditions
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.resources.base import timestamp
from embedding_worker.rows.records import Counts

COUNTS_EVERY_S = 10.0
CONDITIONS_EVERY_S = 1.0


def status(facts: SourceFacts, previous: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The whole status. A condition keeps its time of transition while its status stays the same.

    What is not read yet after a restart, as what the model in force is, stays as `previous` has it.
    """
    before = {condition["type"]: condition for condition in previous.get("conditions", ())}
    present = conditions(facts)
    kept = _kept(present) if previous.get("observedGeneration") == facts.generation else set()
    written: list[dict[str, Any]] = []
    for condition in present:
        new = condition.as_dict(facts.generation, timestamp(now))
        old = before.get(condition.type)
        if old is not None and old["status"] == new["status"]:
            new["lastTransitionTime"] = old["lastTransitionTime"]
        written.append(old if old is not None and condition.type in kept else new)
    result: dict[str, Any] = {
        "observedGeneration": facts.generation,
        "fingerprint": facts.fingerprint if facts.model else previous.get("fingerprint", facts.fingerprint),
        "lastHandledReconcileAt": facts.reconciled_at,
        "jobs": {"open": facts.open_jobs, "deadLettered": facts.dead_letters},
        "backfill": _backfill(facts, previous, now),
        "summary": source_summary.summary(present, suspended=facts.suspended),
        "conditions": written,
    }
    if REEMBED_REQUIRED in kept:
        result |= {field: previous.get(field) for field in ("pendingFingerprint", "reembed")}
    else:
        result |= _pending(facts)
    if facts.model is not None or "model" in previous:
        result["model"] = previous["model"] if facts.model is None else recorded(facts.model)
    if facts.used is not None:
        result |= usage_status.status(facts.used, facts.limits, facts.price_per_million_tokens)
    if facts.counts is not None:
        result["rows"] = _rows(facts.counts)
    return result


def why_jobs_wait(facts: SourceFacts) -> Condition | None:
    """The most pressing condition because of which no job of the source gets on; None if there is none."""
    return source_summary.why_jobs_wait(conditions(facts), suspended=facts.suspended, set_up=facts.set_up)


def _kept(present: Sequence[Condition]) -> set[str]:
    """Conditions of which this process knows nothing until it has read what another one has recorded."""
    known_later = (REEMBED_REQUIRED, backfill_status.BACKFILLING)
    return {found.type for found in present if found.type in known_later and found.reason == SETTING_UP}


def _backfill(facts: SourceFacts, previous: Mapping[str, Any], now: datetime) -> dict[str, Any] | None:
    if facts.backfill is None and not facts.backfill_known:
        return previous.get("backfill")
    return backfill_status.status(facts.backfill, now)


def _pending(facts: SourceFacts) -> dict[str, Any]:
    """What to approve, and what it would cost."""
    if facts.pending is None:
        return {"pendingFingerprint": None, "reembed": None}
    cost = usage_status.cost(facts.pending.tokens, facts.price_per_million_tokens)
    reembed = {"rows": facts.pending.rows, "estimatedCost": cost}
    return {"pendingFingerprint": facts.pending.signature, "reembed": reembed}


def _rows(counts: Counts) -> dict[str, Any]:
    fresh = max(0, counts.total - counts.due)
    return {
        "total": counts.total,
        "fresh": fresh,
        "freshPercent": fresh_percent(fresh, counts.total),
        "due": counts.due,
        "blank": counts.blank,
        "estimated": counts.estimated,
        "oldestDueSince": None if counts.oldest_due_since is None else timestamp(counts.oldest_due_since),
    }


def fresh_percent(fresh: int, total: int) -> str:
    """One decimal, never rounded up to 100.0: that value means that no row is due."""
    if fresh >= total:
        return "100.0"
    return f"{min(99.9, fresh * 100 / total):.1f}"


def worth_writing(new: Mapping[str, Any], written: Mapping[str, Any], *, since_written_s: float) -> bool:
    """Conditions are written at once (at most one patch a second), counts every ten seconds, and only what has changed."""
    if new == written:
        return False
    if _without_counts(new) != _without_counts(written):
        return since_written_s >= CONDITIONS_EVERY_S or not written
    return since_written_s >= COUNTS_EVERY_S


def _without_counts(status: Mapping[str, Any]) -> dict[str, Any]:
    compared = {
        key: value for key, value in status.items() if key not in ("rows", "jobs", "today", "month", "backfill")
    }
    return compared | {"conditions": backfill_status.without_estimates(status.get("conditions", ()))}
