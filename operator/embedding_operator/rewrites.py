"""Finds the rows that jobs embed again and again, such as one whose text a trigger changes at each write of its vector.

Pure; called by metrics.py. It remembers the newest writes of a bounded number of rows, and no text.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from enum import Enum

HOUR_S = 3_600.0
OFTEN = 5
"""So many vectors within an hour are those of a person's edits; each one after them is counted."""
MOST_ROWS = 10_000
"""Of each source: if there are more, those that were not embedded for the longest time are forgotten."""


class Rewrite(Enum):
    FEW = "Few"
    """The row was embedded at most five times within the hour, this time included."""
    BEGUN = "Begun"
    """This time is one too many, and the time before was not."""
    GOES_ON = "GoesOn"


class Rewrites:
    """When the rows of each source were embedded. All moments are of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._embedded: dict[str, OrderedDict[str, tuple[float, ...]]] = defaultdict(OrderedDict)
        """The last times of each row. Tuples, because an empty deque takes 600 bytes, which is megabytes for all rows."""

    def record(self, source: str, row_id: str, now: float) -> Rewrite:
        """The row has got a vector. Returns whether that has become too often."""
        rows = self._embedded[source]
        times = rows.get(row_id, ())
        before = _within_the_hour(times, now)
        rows[row_id] = (*times[-OFTEN:], now)
        rows.move_to_end(row_id)
        if len(rows) > MOST_ROWS:
            rows.popitem(last=False)
        if before < OFTEN:
            return Rewrite.FEW
        return Rewrite.BEGUN if before == OFTEN else Rewrite.GOES_ON

    def forget(self, source: str) -> None:
        self._embedded.pop(source, None)


def _within_the_hour(times: Iterable[float], now: float) -> int:
    return sum(time > now - HOUR_S for time in times)
