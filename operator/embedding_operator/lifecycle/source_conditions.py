"""Decides a source's conditions, by the conventions that kubectl wait, Helm, Flux and Argo CD read.

For kstatus, exactly one of these holds: Ready=True; Reconciling=True with Ready=False (being set up); Stalled=True with
Ready=False (someone must act). Pure; called by source_status.py, and by the source's loop for its metrics.
"""

from embedding_operator.lifecycle import backfill_status
from embedding_operator.lifecycle.backfill_status import sweeping
from embedding_operator.lifecycle.condition import Condition
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import Counts

MANY_BLANK = 0.1
SETTING_UP, REEMBED_REQUIRED = "SettingUp", "ReembedRequired"
LOCKED = "RowsLocked"
"""The reason of what a source waits for while another session has locked its table."""


def conditions(facts: SourceFacts) -> list[Condition]:
    if facts.refused is not None:
        reason, message = facts.refused
        return [
            Condition("Ready", False, reason, message),
            Condition("Reconciling", False, "Stalled", "waits until someone acts: see the condition Stalled"),
            Condition("Stalled", True, reason, message),
            _not_known("Fresh", facts),
            *_others(facts),
        ]
    if not facts.set_up:
        waiting_for = facts.waiting_for
        why = waiting_for.message if waiting_for else "the table is being inspected and its book-keeping created"
        return [
            Condition("Ready", False, SETTING_UP, why),
            Condition("Reconciling", True, SETTING_UP, why),
            Condition("Stalled", False, "NotStalled", "no action is needed"),
            _not_known("Fresh", facts),
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
        _database(facts),
        _locked(facts),
        _blank(facts.counts),
        _provider(facts),
        _reembed_required(facts),
        _backfilling(facts),
    ]


def _not_known(kind: str, facts: SourceFacts) -> Condition:
    """A condition of a source that is stalled, or not set up yet."""
    if facts.refused is not None:
        return Condition(kind, None, "Stalled", "not evaluated while the source is stalled")
    return Condition(kind, None, SETTING_UP, "not known yet")


def _database(facts: SourceFacts) -> Condition:
    problem = facts.waiting_for
    if problem is not None and problem.reason == "DatabaseUnavailable":
        return Condition("DatabaseReady", False, problem.reason, problem.message)
    if facts.set_up:
        return Condition("DatabaseReady", True, "DatabaseReady", "the database answers")
    return Condition("DatabaseReady", None, SETTING_UP, "the table is not set up yet")


def _locked(facts: SourceFacts) -> Condition:
    table_locked = facts.waiting_for is not None and facts.waiting_for.reason == LOCKED
    if facts.rows_locked or table_locked:
        message = (
            "another session of the database keeps rows or the table locked, so that vectors are not written: end it, or "
            "have it commit; pg_stat_activity shows sessions that are idle in transaction"
        )
        return Condition("RowsLocked", True, LOCKED, message)
    return Condition("RowsLocked", False, "NotLocked", "no row is known to be locked for long")


def _provider(facts: SourceFacts) -> Condition:
    if facts.suspended:
        return Condition("ProviderReady", None, "Suspended", "no call is made while spec.suspend is true")
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


def _reembed_required(facts: SourceFacts) -> Condition:
    """False only where the spec is known to be in force: someone may drop a column that it does not read any more."""
    pending = facts.pending
    if pending is None and (facts.change_refused or not facts.set_up):
        return _not_known(REEMBED_REQUIRED, facts)
    if pending is None:
        return Condition(REEMBED_REQUIRED, False, "Approved", "the spec's model and text are in force")
    message = (
        f"the spec's model or text has changed, and {pending.rows} rows would be embedded again: the previous "
        f"configuration stays in force until spec.approvedFingerprint is {pending.signature}"
    ) + (f"; it is {pending.approved}" if pending.approved else "")
    return Condition(REEMBED_REQUIRED, True, "ApprovalNeeded", message)


def _backfilling(facts: SourceFacts) -> Condition:
    if facts.backfill is None and facts.backlog is None and not facts.backfill_known:
        return _not_known(backfill_status.BACKFILLING, facts)
    return backfill_status.backfilling(facts.backfill, facts.backlog, no_calls=facts.provider_problem is not None)


def _fresh(facts: SourceFacts) -> Condition:
    """The messages contain no number: a condition is written when it changes, which would then be at every sweep."""
    if facts.waiting_for is not None or facts.counts is None:
        waiting_for = facts.waiting_for or Problem("Counting", "the rows are being counted")
        return Condition("Fresh", None, waiting_for.reason, waiting_for.message)
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
