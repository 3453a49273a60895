"""What a source's status says: facts → conditions, by the conventions that kubectl wait, Helm, Flux and Argo CD read.

For kstatus one of three holds: Ready=True; or Reconciling=True with Ready=False (being set up); or Stalled=True with
Ready=False (someone must act). It decides only; the source's loop writes what has changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embedding_operator.lifecycle.job_status import timestamp
from embedding_worker.providers.calls import Problem
from embedding_worker.rows.store import Counts, Used

COUNTS_EVERY_S = 10.0
CONDITIONS_EVERY_S = 1.0


@dataclass(frozen=True)
class Pending:
    """A changed model or text expression that waits for approval, and what it would embed."""

    signature: str
    rows: int
    tokens: int


@dataclass(frozen=True)
class SourceFacts:
    """What is known of a source at a moment."""

    generation: int
    fingerprint: str
    set_up: bool = False
    refused: tuple[str, str] | None = None
    """Reason and sentence, where someone must act."""
    suspended: bool = False
    waiting_for: str | None = None
    """What is away at the moment (the database, the API server), in a sentence."""
    filled: bool = False
    """An audit has been through the whole table."""
    counts: Counts | None = None
    open_jobs: int = 0
    dead_letters: int = 0
    provider_problem: Problem | None = None
    pending: Pending | None = None
    used: Used | None = None
    price_per_million_tokens: float = 0.0
    reconciled_at: str | None = None
    """The token of the last request to reconcile that was carried out."""


@dataclass(frozen=True)
class Condition:
    type: str
    status: bool | None
    reason: str
    message: str

    def as_dict(self, generation: int, since: str) -> dict[str, Any]:
        return {
            "type": self.type,
            "status": "Unknown" if self.status is None else str(self.status),
            "reason": self.reason,
            "message": self.message,
            "lastTransitionTime": since,
            "observedGeneration": generation,
        }


def conditions(facts: SourceFacts) -> list[Condition]:
    if facts.refused is not None:
        reason, message = facts.refused
        return [
            Condition("Ready", False, reason, message),
            Condition("Reconciling", False, "Stalled", "waits until someone acts, see Stalled"),
            Condition("Stalled", True, reason, message),
            Condition("Fresh", None, "Stalled", "is not looked at while the source is stalled"),
            *_provider_and_bill(facts),
        ]
    if not facts.set_up:
        why = facts.waiting_for or "the table is being looked at, and its book-keeping made"
        return [
            Condition("Ready", False, "SettingUp", why),
            Condition("Reconciling", True, "SettingUp", why),
            Condition("Stalled", False, "NotStalled", "nothing stands in the way"),
            Condition("Fresh", None, "SettingUp", "is not known yet"),
            *_provider_and_bill(facts),
        ]
    reason = "Suspended" if facts.suspended else "Sweeping"
    message = (
        "no job is made while spec.suspend is true" if facts.suspended else "due rows are found, and given a job each"
    )
    return [
        Condition("Ready", True, reason, message),
        Condition("Reconciling", False, reason, message),
        Condition("Stalled", False, "NotStalled", "nothing stands in the way"),
        _fresh(facts),
        *_provider_and_bill(facts),
    ]


def _provider_and_bill(facts: SourceFacts) -> list[Condition]:
    problem = facts.provider_problem
    provider = (
        Condition("ProviderReady", True, "ProviderReady", "nothing is known against the provider")
        if problem is None
        else Condition("ProviderReady", False, problem.reason, problem.message)
    )
    if facts.pending is None:
        return [provider, Condition("ReembedRequired", False, "Approved", "the spec's model and text are in force")]
    message = (
        f"the spec's model or text has changed, and {facts.pending.rows} rows would be embedded anew: until "
        "spec.approvedFingerprint is status.pendingFingerprint, the one before stays in force"
    )
    return [provider, Condition("ReembedRequired", True, "ApprovalNeeded", message)]


def _fresh(facts: SourceFacts) -> Condition:
    """The messages hold no number: a condition is written when it changes, and would else be written at every sweep."""
    if facts.waiting_for is not None or facts.counts is None:
        return Condition("Fresh", None, "Waiting", facts.waiting_for or "the rows are being counted")
    if not facts.filled:
        return Condition("Fresh", False, "FirstAudit", "the first audit is on its way through the table")
    if facts.counts.due_without_dead_letter:
        return Condition("Fresh", False, "RowsDue", "rows wait for their vector, see status.rows.due")
    if facts.counts.due > 0:
        return Condition(
            "Fresh", True, "FreshExceptDeadLettered", "every due row has a dead letter: review and replay them"
        )
    return Condition("Fresh", True, "AllFresh", "every row has the vector of its present text")


def status(facts: SourceFacts, previous: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The whole status. A condition keeps its time of transition while its status stays the same."""
    before = {condition["type"]: condition for condition in previous.get("conditions", ())}
    written: list[dict[str, Any]] = []
    for condition in conditions(facts):
        new = condition.as_dict(facts.generation, timestamp(now))
        old = before.get(condition.type)
        if old is not None and old["status"] == new["status"]:
            new["lastTransitionTime"] = old["lastTransitionTime"]
        written.append(new)
    result: dict[str, Any] = {
        "observedGeneration": facts.generation,
        "fingerprint": facts.fingerprint,
        "pendingFingerprint": facts.pending.signature if facts.pending else None,
        "lastHandledReconcileAt": facts.reconciled_at,
        "jobs": {"open": facts.open_jobs, "deadLettered": facts.dead_letters},
        "reembed": _reembed(facts),
        "conditions": written,
    }
    if facts.used is not None:
        result["today"] = {
            "date": facts.used.day,
            "texts": facts.used.texts,
            "tokens": facts.used.tokens,
            "estimatedCost": cost(facts.used.tokens, facts.price_per_million_tokens),
        }
    if facts.counts is not None:
        result["rows"] = _rows(facts.counts)
    return result


def _reembed(facts: SourceFacts) -> dict[str, Any] | None:
    if facts.pending is None:
        return None
    return {
        "rows": facts.pending.rows,
        "estimatedCost": cost(facts.pending.tokens, facts.price_per_million_tokens),
    }


def cost(tokens: int, price_per_million_tokens: float) -> str:
    """An estimate, in the currency of the price: tokens are counted roughly, and the provider's bill is what counts."""
    return f"{tokens * price_per_million_tokens / 1_000_000:.4f}"


def _rows(counts: Counts) -> dict[str, Any]:
    fresh = max(0, counts.total - counts.due)
    return {
        "total": counts.total,
        "fresh": fresh,
        "freshPercent": fresh_percent(fresh, counts.total),
        "due": counts.due,
        "estimated": counts.estimated,
        "oldestDueSince": None if counts.oldest_due_since is None else timestamp(counts.oldest_due_since),
    }


def fresh_percent(fresh: int, total: int) -> str:
    """One decimal, never rounded up to 100: whoever reads 100 may rely on it."""
    if fresh >= total:
        return "100.0"
    return f"{min(99.9, fresh * 100 / total):.1f}"


def worth_writing(new: Mapping[str, Any], written: Mapping[str, Any], *, since_written_s: float) -> bool:
    """Conditions at once (at most one patch a second), counts every ten seconds, nothing that has not changed."""
    if new == written:
        return False
    if _without_counts(new) != _without_counts(written):
        return since_written_s >= CONDITIONS_EVERY_S or not written
    return since_written_s >= COUNTS_EVERY_S


def _without_counts(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key not in ("rows", "jobs", "today")}
