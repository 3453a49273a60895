"""Counts the jobs of each business within the last minute, and so limits them. Pure; called by job_creator.py."""

MAX_A_MINUTE = 5
MINUTE_S = 60.0


class JobRate:
    """When the jobs of each business were created. All moments are of the monotonic clock, in seconds.

    A person's edits stay below the limit. A row that the application's own triggers rewrite at every write can never become up
    to date; without a limit it would cost calls without end.
    """

    def __init__(self) -> None:
        self._created: dict[str, tuple[float, ...]] = {}
        """The times of each business. Tuples, because an empty deque takes 600 bytes, which is megabytes for all rows."""

    def allows(self, row_id: str, now: float) -> bool:
        """Whether this business may have another job now."""
        self._prune(row_id, now)
        return len(self._created.get(row_id, ())) < MAX_A_MINUTE

    def record(self, row_id: str, now: float) -> None:
        """A job was created for this business."""
        self._created[row_id] = (*self._created.get(row_id, ()), now)

    def forget_old(self, now: float) -> None:
        """Forget businesses without a job within the last minute."""
        for row_id in list(self._created):
            self._prune(row_id, now)

    def _prune(self, row_id: str, now: float) -> None:
        created = self._created.get(row_id)
        if created is None:
            return
        if kept := tuple(moment for moment in created if moment >= now - MINUTE_S):
            self._created[row_id] = kept
        else:
            del self._created[row_id]
