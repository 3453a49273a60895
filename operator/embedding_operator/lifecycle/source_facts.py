"""What is known of a source at one moment: changed by its loop, and the base of its status and conditions. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from embedding_operator.lifecycle.backfill_status import BackfillFacts, Backlog
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.limits import DEFAULT_LIMITS, Limits
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import Counts, Used
from embedding_worker.source import Model


@dataclass(frozen=True)
class Pending:
    """A changed model or text expression that waits for approval, and what it would cost."""

    signature: str
    rows: int
    tokens: int
    approved: str = ""
    """What spec.approvedFingerprint is, which may be that of an earlier change."""


@dataclass(frozen=True)
class SourceFacts:
    """What is known of a source at one moment. Changed only by its loop."""

    generation: int
    fingerprint: str
    set_up: bool = False
    refused: tuple[str, str] | None = None
    """Reason and sentence, where someone must act."""
    suspended: bool = False
    waiting_for: Problem | None = None
    """What cannot be reached at the moment (the database, the API server), or keeps the rows locked."""
    filled: bool = False
    """The first audit has read the whole table."""
    counts: Counts | None = None
    open_jobs: int = 0
    dead_letters: int = 0
    rows_locked: bool = False
    """Another session has locked a row for some time, or the table, so that vectors are not written."""
    audited_rows: int = 0
    """Rows that the present pass of the audit has read."""
    audit_completed_at: datetime | None = None
    """When a pass of this process has last come to the end of the table."""
    provider_called: bool = False
    """A call with the model and its present credential has succeeded."""
    some_calls_fail: bool = False
    """Because of the provider, although others succeed."""
    provider_problem: Problem | None = None
    pending: Pending | None = None
    model: Model | None = None
    """The one in force; None until the source is set up, and what the status has recorded before then stays."""
    used: Used | None = None
    limits: Limits = DEFAULT_LIMITS
    """What may be sent, whether or not the source could be set up with it."""
    freshness_target: timedelta | None = None
    """How long a row may be due."""
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
    backfill_known: bool = False
    """The record of the last backfill has been read."""
    change_refused: bool = False
    """The spec's change of model or text cannot run, and the previous configuration is in force."""
    index_advice: str | None = None
    """What to do about an index on the vectors, in a sentence: recorded at the begin and at the end of a backfill."""

    @property
    def texts_sent(self) -> int:
        """Today."""
        return 0 if self.used is None else self.used.texts


def facts_of(source: EmbeddingSource, *, price_per_million_tokens: float) -> SourceFacts:
    """What is known of a source before anything was done for it. The price is that of sources that set none."""
    return SourceFacts(
        source.metadata.generation,
        source.spec.config().fingerprint,
        suspended=source.spec.suspend,
        limits=replace(source.spec.limits_in_force, cost_per_month=source.spec.limits.estimated_cost_per_month),
        freshness_target=source.spec.freshness_target,
        reconciled_at=source.status.get("lastHandledReconcileAt"),
        price_per_million_tokens=source.spec.price(price_per_million_tokens) or 0.0,
    )
