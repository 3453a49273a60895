"""Decides how many dead letters there may be, and when their rows are looked at again. Called by the sweep.

The job table knows which jobs are dead letters.
"""

from collections import Counter
from dataclasses import dataclass

from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.tracked_job import OPEN, JobState
from embedding_operator.reconciler.window import Window
from embedding_worker.outcome import OutcomeKind

REVIEW_EVERY_S = 60.0
MAX_DEAD_LETTERS = 500
"""Custom resources are scarce, and so many failures mean that something is wrong which costs money."""
FEW_DEAD_LETTERS = 50
"""What every source may have, whatever the others have."""
TEXT_FAILS, SUPPRESSED = OutcomeKind.TEXT_EXPRESSION_FAILED.value, OutcomeKind.UPDATE_SUPPRESSED.value
LOCKED = OutcomeKind.ROW_LOCKED.value
WITHOUT_A_CALL = frozenset({TEXT_FAILS, SUPPRESSED})
"""Reasons of dead letters that cost nothing, because they are known before a call is made."""


class DeadLetterReview:
    """When a source's dead letters are reviewed: a deleted row leaves no change mark, so each row is looked at in turn."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def is_due(self, now: float) -> bool:
        """Whether the dead letters are to be reviewed at this moment of the monotonic clock."""
        return now >= self._next_at

    def record(self, now: float) -> None:
        """They were reviewed."""
        self._next_at = now + REVIEW_EVERY_S


def dead_letter_limit(costly: int, *, costly_in_all: int) -> tuple[str, str] | None:
    """Reason and message where no job of a source may be created, because there are too many dead letters that cost a call.

    `costly` are the source's own, `costly_in_all` those of all sources. If others have used up the limit, the source may still
    have a few, so that the failures of one source never stop another.
    """
    if costly < FEW_DEAD_LETTERS or max(costly, costly_in_all) < MAX_DEAD_LETTERS:
        return None
    elsewhere = "" if costly >= MAX_DEAD_LETTERS else f", and {costly_in_all} in all sources"
    message = (
        f"there are {costly} dead letters{elsewhere}, and the limit is {MAX_DEAD_LETTERS}: no job is created until some of them "
        "are replayed or deleted, or their rows are corrected"
    )
    return "DeadLetterLimit", message


@dataclass(frozen=True)
class AtRisk:
    """Jobs that are dead letters that cost a call, or may become some."""

    costly: int
    open: int

    @property
    def total(self) -> int:
        return self.costly + self.open


def more_open_jobs(here: AtRisk, in_all: AtRisk, *, sharing: int) -> int:
    """How many more jobs of a source may be open, so that the limit is not exceeded if all open jobs become dead letters.

    The room is divided among the `sharing` sources that have more than a few dead letters. Near the limit only a few jobs may be
    open, but not fewer than one before it is reached, so that rows that do not fail go on. Each source may have a few dead
    letters whatever the others have.
    """
    if dead_letter_limit(here.costly, costly_in_all=in_all.costly) is not None:
        return 0
    room = max(0, MAX_DEAD_LETTERS - in_all.total)
    if here.costly < FEW_DEAD_LETTERS:
        return max(room, FEW_DEAD_LETTERS - here.total, 0)
    return max(room // sharing, 1 - here.open, 0)


def room_for_dead_letters(existing: int, of_the_source: int) -> int:
    """How many rows that are known to fail without a call may get a job, so that they are shown as dead letters."""
    return max(MAX_DEAD_LETTERS - existing, FEW_DEAD_LETTERS - of_the_source, 0)


class DeadLetters:
    """The dead letters of one source, beside those of all others."""

    def __init__(self, source: str, table: JobTable, window: Window) -> None:
        self._source = source
        self._table = table
        self._window = window

    @property
    def number(self) -> int:
        """How many there are, whatever their reason is."""
        return self._table.count({JobState.DEAD_LETTERED}, source=self._source)

    @property
    def limit(self) -> tuple[str, str] | None:
        """Reason and message if no job of the source may be created; None otherwise. See dead_letter_limit."""
        costly = self._costly()
        return dead_letter_limit(costly[self._source], costly_in_all=costly.total())

    @property
    def may_be_opened(self) -> int:
        """How many more jobs of the source may be open. See more_open_jobs."""
        costly = self._costly()
        sharing = sum(number >= FEW_DEAD_LETTERS for number in costly.values())
        here = AtRisk(costly[self._source], self._open_at_risk(self._source))
        at_work = self._open_at_risk(*(self._table.sources() - self._window.idle - {self._source}))
        in_all = AtRisk(costly.total(), here.open + at_work)
        return more_open_jobs(here, in_all, sharing=max(sharing, 1))

    def _open_at_risk(self, *sources: str) -> int:
        """How many open jobs of these sources may become dead letters soon. A lock is no failure: locked rows stop no others."""
        locked = (job for job in self._table.jobs(states={JobState.BACKING_OFF}) if job.reason == LOCKED)
        opened = sum(self._table.count(OPEN, source=source) for source in sources)
        return opened - sum(job.source in sources for job in locked)

    def _costly(self) -> Counter[str]:
        """The dead letters that cost a call, by source."""
        return Counter(source for source, reason in self._reasons() if reason not in WITHOUT_A_CALL)

    @property
    def room(self) -> int:
        """How many rows that are known to fail may get a job. See room_for_dead_letters.

        Open jobs may become dead letters too.
        """
        sources = [source for source, _ in self._reasons()]
        opened = self._table.count(OPEN, source=self._source)
        return room_for_dead_letters(len(sources) + opened, sources.count(self._source) + opened)

    @property
    def any_suppressed(self) -> bool:
        """Whether an update of the source was suppressed, so that others may be too."""
        return (self._source, SUPPRESSED) in self._reasons()

    def _reasons(self) -> list[tuple[str, str]]:
        return [(job.source, job.reason) for job in self._table.jobs(states={JobState.DEAD_LETTERED})]
