"""Decides how many dead letters there may be, and when their rows are looked at again. Called by the sweep.

Which jobs are dead letters is the job table's to know.
"""

REVIEW_EVERY_S = 60.0
MAX_DEAD_LETTERS = 500
"""Custom resources are scarce, and so many failures mean that something is wrong which costs money."""
FEW_DEAD_LETTERS = 50
"""What every source may have, whatever the others have."""
WITHOUT_A_CALL = frozenset({"TextExpressionFailed", "UpdateSuppressed"})
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
    message = (
        f"there are {costly} dead letters: no job is created until some of them are replayed or deleted, "
        "or their rows are corrected"
    )
    return "DeadLetterLimit", message


def room_for_dead_letters(existing: int, of_the_source: int) -> int:
    """How many rows that are known to fail without a call may get a job, so that they are shown as dead letters."""
    return max(MAX_DEAD_LETTERS - existing, FEW_DEAD_LETTERS - of_the_source, 0)
