"""How many jobs may be open, and whose turn it is: custom resources are the scarce thing. It decides only."""

from collections import deque
from collections.abc import Mapping

SMALLEST = 50
SECONDS_AHEAD = 2.0
"""The window holds as many jobs as are done in this time: enough to keep the batches full, few enough to keep its shape."""
MEASURED_OVER_S = 10.0


class Throughput:
    """Jobs settled a second, over the last ten seconds. Moments come from a monotonic clock, in order."""

    def __init__(self) -> None:
        self._settled: deque[float] = deque()

    def settled(self, now: float) -> None:
        self._settled.append(now)

    def per_s(self, now: float) -> float:
        while self._settled and self._settled[0] < now - MEASURED_OVER_S:
            self._settled.popleft()
        if not self._settled:
            return 0.0
        # Right after a start the ten seconds are not over yet: what was seen so far counts, of a second at least.
        return len(self._settled) / min(MEASURED_OVER_S, max(1.0, now - self._settled[0]))


def size(most: int, *, per_s: float) -> int:
    """How many jobs may be open in all: two seconds of the measured throughput, between 50 and `most`."""
    return min(most, max(SMALLEST, round(per_s * SECONDS_AHEAD)))


SMALLEST_SHARE = 5


def share(limit: int, due: Mapping[str, int], source: str) -> int:
    """The part of the window that is this source's, by what is due in each; a few places where anything is due.

    A source that is alone has all of it; a small one is never starved by a large one's backfill.
    """
    mine = due.get(source, 0)
    total = sum(due.values())
    if mine == 0 or mine == total:
        return limit
    return min(limit, max(SMALLEST_SHARE, limit * mine // total))


def free(size: int, *, active_here: int, active_in_all: int, my_share: int, most: int) -> int:
    """How many jobs this source may make now: neither its share, nor the window, nor what may be open at all is passed.

    Jobs in a backoff are not active: rows that fail one after the other must not stop an edit. `most` is what may still be
    open beside all that is, backoffs included.
    """
    return max(0, min(my_share - active_here, size - active_in_all, most))
