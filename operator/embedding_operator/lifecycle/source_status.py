"""Decides a source's status: from its facts to conditions, by the conventions that kubectl wait, Helm, Flux and Argo CD read.

For kstatus, exactly one of these holds: Ready=True; Reconciling=True with Ready=False (being set up); Stalled=True with
Ready=False (someone must act). Pure; called by reconciler/status_report.py, which writes the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embedding_operator.lifecycle import backfill_status
from embedding_operator.lifecycle.backfill_status import BackfillFacts, Backlog, sweeping
from embedding_operator.lifecycle.condition import Condition
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import Counts, Used

COUNTS_EVERY_S = 10.0
CONDITIONS_EVERY_S = 1.0
MANY_BLANK = 0.1


@dataclass(frozen=True)
class Pending:
    """A changed model or text expression that waits for approval, and what it would cost."""

    signature: str
    rows: int
    tokens: int


@dataclass(frozen=True)
class SourceFacts:
    """What is known of a source at one moment. Changed only by its loop."""

    generation: int
    fingerprint: str
    set_up: bool = False
    refused: tuple[str, str] | None = None
    """Reason and sentence, where someone must act."""
    suspended: bool = False
    waiting_for: str | None = None
    """What cannot be reached at the moment (the database, the API server), in a sentence."""
    filled: bool = False
    """The first audit has read the whole table."""
    counts: Counts | None = None
    open_jobs: int = 0
    dead_letters: int = 0
    provider_called: bool = False
    """A call with the model and its present credential has succeeded."""
    some_calls_fail: bool = False
    """Because of the provider, although others succeed."""
    provider_problem: Problem | None = None
    pending: Pending | None = None
    used: Used | None = None
    price_per_million_tokens: float = 0.0
    reconciled_at: str | None = None
    """The token of the last request to reconcile that was carried out."""
    paused_since: str | None = None
    """An administrator has paused the triggers."""
    jobs_refused: tuple[str, str] | None = None
    """Reason and sentence, where no job can be created until someone acts. Rows are still audited and counted."""
    backfill: BackfillFacts | None = None
    """The one that is active, or the last one."""
    backlog: Backlog | None = None
    """With mode Jobs, the rows that no edit made due, where they are more than the threshold."""
    index_advice: str | None = None
    """What to do about an index on the vectors, in a sentence: recorded at the begin and at the end of a backfill."""

    @property
    def texts_sent(self) -> int:
        """Today."""
        return 0 if self.used is None else self.used.texts


def facts_of(source: EmbeddingSource, *, price_per_million_tokens: float) -> SourceFacts:
    """What is known of a source before anything was done for it."""
    return SourceFacts(
        source.metadata.generation,
        source.spec.config().fingerprint,
        suspended=source.spec.suspend,
        reconciled_at=source.status.get("lastHandledReconcileAt"),
        price_per_million_tokens=price_per_million_tokens,
    )


def conditions(facts: SourceFacts) -> list[Condition]:
    if facts.refused is not None:
        reason, message = facts.refused
        return [
            Condition("Ready", False, reason, message),
            Condition("Reconciling", False, "Stalled", "waits until someone acts: see the condition Stalled"),
            Condition("Stalled", True, reason, message),
            Condition("Fresh", None, "Stalled", "not evaluated while the source is stalled"),
            *_others(facts),
        ]
    if not facts.set_up:
        why = facts.waiting_for or "the table is being inspected and its book-keeping created"
        return [
            Condition("Ready", False, "SettingUp", why),
            Condition("Reconciling", True, "SettingUp", why),
            Condition("Stalled", False, "NotStalled", "no action is needed"),
            Condition("Fresh", None, "SettingUp", "not known yet"),
            *_others(facts),
        ]
    if facts.jobs_refused is not None:
        return _jobs_refused(facts, *facts.jobs_refused)
    reason = "Suspended" if facts.suspended else "Sweeping"
    message = "no job is created while spec.suspend is true" if facts.suspended else sweeping(facts.backfill)
    if facts.paused_since is not None:
        message += (
            f"; triggers are paused since {facts.paused_since}: only the audit finds edits, until resume-triggers"
        )
    return [
        Condition("Ready", True, reason, message),
        Condition("Reconciling", False, reason, message),
        Condition("Stalled", False, "NotStalled", "no action is needed"),
        _fresh(facts),
        *_others(facts),
    ]


def _jobs_refused(facts: SourceFacts, reason: str, message: str) -> list[Condition]:
    """The source is stalled, but its rows are known."""
    return [
        Condition("Ready", False, reason, message),
        Condition("Reconciling", False, "Stalled", "waits until someone acts: see the condition Stalled"),
        Condition("Stalled", True, reason, message),
        _fresh(facts),
        *_others(facts),
    ]


def _others(facts: SourceFacts) -> list[Condition]:
    """The conditions that do not depend on whether the source runs."""
    return [
        _blank(facts.counts),
        _provider(facts),
        _reembed_required(facts.pending),
        backfill_status.backfilling(facts.backfill, facts.backlog, no_calls=facts.provider_problem is not None),
    ]


def _provider(facts: SourceFacts) -> Condition:
    if facts.provider_problem is not None:
        return Condition("ProviderReady", False, facts.provider_problem.reason, facts.provider_problem.message)
    if facts.provider_called and facts.some_calls_fail:
        message = (
            "calls succeed, but some fail because of the provider: their rows are tried again, and lose no attempt"
        )
        return Condition("ProviderReady", True, "SomeCallsFail", message)
    if facts.provider_called:
        return Condition("ProviderReady", True, "ProviderReady", "the last call succeeded")
    return Condition("ProviderReady", None, "NotCalled", "no call with this model has succeeded yet")


def _reembed_required(pending: Pending | None) -> Condition:
    if pending is None:
        return Condition("ReembedRequired", False, "Approved", "the spec's model and text are in force")
    message = (
        f"the spec's model or text has changed, and {pending.rows} rows would be embedded again: the previous "
        "configuration stays in force until spec.approvedFingerprint equals status.pendingFingerprint"
    )
    return Condition("ReembedRequired", True, "ApprovalNeeded", message)


def _fresh(facts: SourceFacts) -> Condition:
    """The messages contain no number: a condition is written when it changes, which would then be at every sweep."""
    if facts.waiting_for is not None or facts.counts is None:
        return Condition("Fresh", None, "Waiting", facts.waiting_for or "the rows are being counted")
    if not facts.filled:
        return Condition("Fresh", False, "FirstAudit", "the first audit has not read the whole table yet")
    if facts.counts.due_without_dead_letter:
        return Condition("Fresh", False, "RowsDue", "rows are due: see status.rows.due")
    if 0 < facts.counts.total <= facts.counts.due:
        return Condition("Fresh", False, "NoneFresh", "no row is fresh: every row has a dead letter that says why")
    if facts.counts.due > 0:
        return Condition(
            "Fresh",
            True,
            "FreshExceptDeadLettered",
            "every due row has a dead letter: review and replay the dead letters",
        )
    return Condition("Fresh", True, "AllFresh", "every row has the vector of its present text")


def _blank(counts: Counts | None) -> Condition:
    """Whether so many texts are empty that spec.text may be wrong, as with a misspelt key of a JSON column."""
    if counts is None:
        return Condition("BlankTexts", None, "NotCounted", "the rows are being counted")
    if counts.blank > counts.total * MANY_BLANK:
        message = (
            "more than a tenth of the texts are empty, and have no vector: see status.rows.blank, and check spec.text"
        )
        return Condition("BlankTexts", True, "ManyBlankTexts", message)
    return Condition("BlankTexts", False, "FewBlankTexts", "at most a tenth of the texts are empty")


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
        "backfill": backfill_status.status(facts.backfill, now),
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
    """An estimate, in the currency of the price: the tokens are estimated, and the provider's bill may differ."""
    return f"{tokens * price_per_million_tokens / 1_000_000:.4f}"


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
    compared = {key: value for key, value in status.items() if key not in ("rows", "jobs", "today", "backfill")}
    return compared | {"conditions": backfill_status.without_estimates(status.get("conditions", ()))}
