"""Decides what a row needs, and names what became of it. Pure; called by embedding.py, and read by the jobs' status."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from typing import NamedTuple

from embedding_worker.errors import InputRejected, ProviderError, RowsRefused, StatementTimedOut
from embedding_worker.rows.records import HANDED_OVER, LastOutcome, PresentRow, VectorWrite
from embedding_worker.source import TooLong
from embedding_worker.text import fit_text

FIRST_LOCKED_PAUSE_S = 15.0
LONGEST_LOCKED_PAUSE_S = 60.0
LONGEST_MESSAGE = 1_024
"""Of what is kept: a failure quotes the words of others, in any length."""


class OutcomeKind(Enum):
    EMBEDDED = "Embedded"
    ALREADY_FRESH = "AlreadyFresh"
    BLANK_TEXT = "BlankText"
    ROW_DELETED = "RowDeleted"
    TEXT_CHANGED = "TextChanged"
    INPUT_REJECTED = "InputRejected"
    ID_INVALID = "IdInvalid"
    TEXT_EXPRESSION_FAILED = "TextExpressionFailed"
    UPDATE_SUPPRESSED = "UpdateSuppressed"
    ROW_LOCKED = "RowLocked"
    FAILED = "Failed"


class RowRequest(NamedTuple):
    """One row that is to be embedded, and the hash of the text that it had when it was found due.

    Without a hash, as in a backfill, the text that it has now is embedded, whatever it was.
    """

    id: str
    content_hash: str | None = None


@dataclass(frozen=True)
class RowOutcome:
    """What became of a row: the kind decides what happens to its job, reason and message are for people."""

    kind: OutcomeKind
    reason: str
    message: str
    code: str = ""
    """The provider's own code for a failure."""
    retry_after_s: float | None = None
    """Of a locked row: the pause until it is tried again."""

    def handed_over(self, now: datetime) -> LastOutcome:
        """For the record of the row's last outcomes: it failed in a backfill, and gets a job."""
        return LastOutcome(now, HANDED_OVER, self.reason, self.message[:LONGEST_MESSAGE], attempt=0)


@dataclass(frozen=True)
class Settled:
    """The row needs nothing more."""

    outcome: RowOutcome


@dataclass(frozen=True)
class WriteNull:
    """The row's text is blank: its vector is to be null."""

    write: VectorWrite


class NeedsEmbedding(NamedTuple):
    """The row needs the vector of this text, which is cut to the model's limit. The hash is that of the whole text."""

    text: str
    content_hash: str
    is_cut: bool = False


MESSAGES = {
    OutcomeKind.EMBEDDED: "the vector was written",
    OutcomeKind.ALREADY_FRESH: "the row already has the vector of its present text",
    OutcomeKind.BLANK_TEXT: "the text is empty: the vector is null, and no call was made",
    OutcomeKind.ROW_DELETED: "the row is gone",
    OutcomeKind.TEXT_CHANGED: "the text has changed since: the new one has a job of its own",
    OutcomeKind.UPDATE_SUPPRESSED: "a trigger or a rule of the application suppresses the update of the row: let updates of the "
    "embedding column alone pass, then replay this job",
}


NOT_NULL = "23502"
NULL_REFUSED = ": a row without text has no vector, so drop the column's NOT NULL, or give the row a text"


def outcome(kind: OutcomeKind) -> RowOutcome:
    """An outcome with a fixed message."""
    return RowOutcome(kind, kind.value, MESSAGES[kind])


def failed(error: ProviderError | RowsRefused) -> RowOutcome:
    """The outcome of a failure that counts as the row's attempt."""
    match error:
        case InputRejected():
            return RowOutcome(OutcomeKind.INPUT_REJECTED, error.reason, error.message, code=error.code)
        case ProviderError():
            return RowOutcome(OutcomeKind.FAILED, type(error).__name__, error.message, code=error.code)
        case RowsRefused():
            remedy = NULL_REFUSED if error.sqlstate == NOT_NULL else ""
            return RowOutcome(OutcomeKind.FAILED, error.reason, f"{error.message}{remedy}")


def text_failed(error: RowsRefused) -> RowOutcome:
    """The outcome of a row whose text expression fails, or takes too long, which the database may be to blame for."""
    kind = OutcomeKind.FAILED if isinstance(error, StatementTimedOut) else OutcomeKind.TEXT_EXPRESSION_FAILED
    message = f"spec.text fails for this row ({error.message}): correct the row, or spec.text"
    return RowOutcome(kind, OutcomeKind.TEXT_EXPRESSION_FAILED.value, message, code=error.sqlstate)


def row_locked(since: datetime, now: datetime) -> RowOutcome:
    """The outcome of a row that another session keeps locked. It is no attempt: the vector is written when the lock is gone.

    The longer the row is locked, the longer is the pause, between 15 s and a minute.
    """
    pause_s = min(max((now - since).total_seconds() / 2, FIRST_LOCKED_PAUSE_S), LONGEST_LOCKED_PAUSE_S)
    seen = f"{since:%Y-%m-%dT%H:%M:%SZ}"
    message = f"another session has locked the row since {seen} or earlier: the vector is written when it has ended"
    return RowOutcome(OutcomeKind.ROW_LOCKED, OutcomeKind.ROW_LOCKED.value, message, retry_after_s=pause_s)


def id_invalid(row_id: str, problem: str) -> RowOutcome:
    """The outcome of a request for an id that no row can have. `problem` is RowStore.id_problem's."""
    message = f"the id {row_id!r} {problem}: delete this job"
    return RowOutcome(OutcomeKind.ID_INVALID, OutcomeKind.ID_INVALID.value, message)


Need = Settled | WriteNull | NeedsEmbedding
Decide = Callable[[RowRequest, PresentRow | None], Need]
"""What a row needs, as it is now (None: it is gone)."""


def are_of_jobs(requests: Iterable[RowRequest]) -> bool:
    """Whether a job names the text of one of them; in a backfill, none does."""
    return any(request.content_hash is not None for request in requests)


def rows_by_text(texts: Mapping[RowRequest, NeedsEmbedding]) -> dict[str, list[RowRequest]]:
    """The rows of each text that is sent. Those with the same text share its call and its outcome."""
    rows: dict[str, list[RowRequest]] = {}
    for request, needed in texts.items():
        rows.setdefault(needed.text, []).append(request)
    return rows


def decider(*, max_text_bytes: int, too_long: TooLong) -> Decide:
    """Decides for a model that accepts texts of so many bytes."""
    return partial(decide_need, max_text_bytes=max_text_bytes, too_long=too_long)


def decide_need(request: RowRequest, row: PresentRow | None, *, max_text_bytes: int, too_long: TooLong) -> Need:
    """What the row needs, as it is now (None: it is gone)."""
    if row is None:
        return Settled(outcome(OutcomeKind.ROW_DELETED))
    if row.failure is not None:
        return Settled(text_failed(row.failure))
    if row.up_to_date:
        return Settled(outcome(OutcomeKind.ALREADY_FRESH))
    if request.content_hash not in (None, row.content_hash):
        return Settled(outcome(OutcomeKind.TEXT_CHANGED))
    content_hash = row.content_hash or ""
    if row.blank:
        return WriteNull(VectorWrite(row.id, content_hash, None))
    try:
        text = fit_text(row.text, whole_bytes=row.text_bytes, max_bytes=max_text_bytes, too_long=too_long)
        return NeedsEmbedding(text, content_hash, is_cut=row.text_bytes > max_text_bytes)
    except InputRejected as exc:
        return Settled(failed(exc))
