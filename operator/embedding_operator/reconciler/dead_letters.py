"""Decides how many dead letters there may be, and when their rows are looked at again. Called by the sweep.

Which jobs are dead letters is the job table's to know.
"""

REVIEW_EVERY_S = 60.0
MAX_DEAD_LETTERS = 500
"""Custom resources are scarce, and so many failures mean that something is wrong which costs money."""


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


def dead_letter_limit(dead_letters: int) -> tuple[str, str] | None:
    """Reason and message where no job may be created because there are too many dead letters."""
    if dead_letters < MAX_DEAD_LETTERS:
        return None
    message = (
        f"there are {dead_letters} dead letters: no job is created until some of them are replayed or deleted, "
        "or their rows are corrected"
    )
    return "DeadLetterLimit", message
