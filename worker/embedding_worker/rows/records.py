"""What the row store returns and takes: rows that are due, rows as they are now, counts, and vectors to write. Pure.

Made by store.py, pages.py, and of outcomes by those who know them; read by the sweep, the pipeline and the status.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from embedding_worker.errors import RowsRefused
from embedding_worker.providers.embedder import Vector
from embedding_worker.text import TEXT_FAILS


@dataclass(frozen=True)
class DueRow:
    """A row with at least one change mark, as the sweep found it."""

    id: str
    newest_mark: int
    edited: bool
    """An application changed it; false if only the audit found it, as in a backfill."""
    content_hash: str | None
    """Of its present text; None if the row is gone, or if its text expression fails."""
    blank: bool = False
    up_to_date: bool = False
    """It already has the vector of its present text, so only its marks have to be deleted."""
    gone: bool = False
    text_fails: bool = False
    """The text expression fails for this row."""
    marked_s_ago: float = 0.0
    """The age of the newest change mark."""

    @property
    def job_hash(self) -> str:
        """The content hash of the job that the row needs."""
        return self.content_hash or TEXT_FAILS


@dataclass(frozen=True)
class Seen:
    """How many rows a sweep, or a page, has looked at, and how many of them were up to date or gone."""

    rows: int
    up_to_date: int


class PresentRow(NamedTuple):
    """A row as it is now. If its text expression fails, `failure` says why, and the row has no text."""

    id: str
    content_hash: str | None
    blank: bool = False
    up_to_date: bool = False
    text: str = ""
    """The beginning of the text, at least as many characters as were requested if it is longer."""
    text_bytes: int = 0
    """Of the whole text, in UTF-8."""
    failure: RowsRefused | None = None


@dataclass(frozen=True)
class NewerMark:
    id: str
    newest_mark: int
    content_hash: str | None = None
    """Of the present text; None if the row is gone, or if its text expression fails."""
    gone: bool = False

    @property
    def job_hash(self) -> str:
        """The content hash of the job that the row needs."""
        return self.content_hash or TEXT_FAILS


@dataclass(frozen=True)
class Counts:
    total: int
    due: int
    due_without_dead_letter: bool
    """At least one due row has no dead letter."""
    oldest_due_since: datetime | None
    """When the oldest mark of a row without a dead letter was made."""
    estimated: bool
    blank: int = 0
    """Rows that are up to date without a vector, because their text is empty."""
    marks: int = 0
    """Change marks: at least one for each due row."""


@dataclass(frozen=True)
class Used:
    """What was sent to the provider on a UTC day and in its month, for this table and column."""

    day: str
    texts: int
    tokens: int
    """As the provider has reported them, as far as it has, and else estimated."""
    reported: int = 0
    """Of these tokens."""
    cut: int = 0
    """Texts that were longer than the model accepts, and of which only the beginning was embedded."""
    month_tokens: int = 0
    """In the calendar month (UTC), this day included."""
    cut_ever: int = 0
    """As `cut`, on all days."""

    def on(self, day: str) -> "Used":
        """On a later day, such as 2026-03-01, if nothing was sent since."""
        same_month = day[: len("2026-03")] == self.day[: len("2026-03")]
        return Used(day, 0, 0, month_tokens=self.month_tokens if same_month else 0, cut_ever=self.cut_ever)


@dataclass(frozen=True)
class UsageNote:
    """What is known of a call after it has succeeded."""

    at: float
    """When its texts were counted, by the monotonic clock."""
    more_tokens: int = 0
    """As many more tokens than were estimated has the provider reported; negative if they are fewer."""
    reported: int = 0
    """The tokens that it has reported."""
    cut: int = 0
    """How many of its texts were cut."""


@dataclass(frozen=True)
class RateLimits:
    """How much all processes together may send to a provider in a minute; None where there is no limit."""

    requests: int | None = None
    texts: int | None = None
    tokens: int | None = None

    @property
    def are_set(self) -> bool:
        return (self.requests, self.texts, self.tokens) != (None, None, None)


@dataclass(frozen=True)
class RateGrant:
    """Whether a call was reserved within the provider's rate limits."""

    granted: bool
    wait_s: float
    """How long to wait before the call; if it was not reserved, when it would have been possible at the earliest."""


class VectorWrite(NamedTuple):
    """What to write: the vector of the text with this hash, or None if that text is blank."""

    id: str
    content_hash: str
    vector: Vector | None


@dataclass(frozen=True)
class WriteResult:
    """What became of rows that were to be written. A row in neither was edited, deleted, or is locked by another session."""

    written: set[str]
    suppressed: set[str]
    """Their update has changed nothing, because a trigger or a rule suppresses it."""
    took_s: float | None = None
    """How long the database has needed, if it was measured."""


@dataclass(frozen=True)
class LastOutcome:
    """What became of a row, or of an attempt to embed it. It is kept after the job is gone."""

    at: datetime
    phase: str
    """That of the job, or HANDED_OVER."""
    reason: str
    message: str
    attempt: int
    """How many attempts of the job had failed, this one included; 0 if that is not known, or if there was no job."""


HANDED_OVER = "HandedOver"
"""The row failed in a backfill, and gets a job."""


@dataclass(frozen=True)
class AuditPage:
    last_id: str | None
    """None at the end of the table: the next page is the first one."""
    rows: int
    marked: int


@dataclass(frozen=True)
class DuePreview:
    """A row that is not up to date. The hash is None if its text expression fails."""

    id: str
    content_hash: str | None
    blank: bool
    text_bytes: int

    @property
    def job_hash(self) -> str:
        """The content hash of the job that the row needs."""
        return self.content_hash or TEXT_FAILS


@dataclass(frozen=True)
class PreviewPage:
    due: list[DuePreview]
    last_id: str | None
    """None at the end of the table."""
