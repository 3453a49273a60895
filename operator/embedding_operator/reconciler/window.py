"""How many jobs may be open, and how many of them a source may create now. Called by the sweep and by the metrics.

The window holds as many jobs as are done in two seconds: enough to keep batches full, few enough to stay a window. Custom
resources are scarce: about 1,500 small objects in a namespace is what API servers handle without effort.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.job_table import ACTIVE, OPEN, JobTable
from embedding_worker.clock import Clock

SMALLEST = 50
SECONDS_AHEAD = 2.0
MEASURED_OVER_S = 10.0
SMALLEST_SHARE = 5


class Throughput:
    """Jobs done per second, over the last ten seconds. Moments are of the monotonic clock, in order."""

    def __init__(self) -> None:
        self._done: deque[float] = deque()

    def record(self, now: float) -> None:
        """A job is done."""
        self._done.append(now)

    def per_s(self, now: float) -> float:
        while self._done and self._done[0] < now - MEASURED_OVER_S:
            self._done.popleft()
        if not self._done:
            return 0.0
        # Soon after a start there are no ten seconds yet: the time since the first job counts, one second at least.
        return len(self._done) / min(MEASURED_OVER_S, max(1.0, now - self._done[0]))


def window_size(max_open: int, *, per_s: float) -> int:
    """How many jobs may be active in all sources: two seconds of the measured throughput, between 50 and `max_open`."""
    return min(max_open, max(SMALLEST, round(per_s * SECONDS_AHEAD)))


def share(limit: int, due: Mapping[str, int], source: str) -> int:
    """The part of the window that is this source's, by the due rows of each; a few places where any row is due.

    A source that is alone has all of it; a small source is never starved by the first fill of a large one.
    """
    mine = due.get(source, 0)
    total = sum(due.values())
    if mine == 0 or mine == total:
        return limit
    return min(limit, max(SMALLEST_SHARE, limit * mine // total))


@dataclass(frozen=True)
class Usage:
    """What exists at the moment. `all` are all sources but other ones that are idle."""

    active_here: int
    active_in_all: int
    open_in_all: int
    existing: int
    """Open and finished jobs of all sources, idle ones too."""


def free_places(
    window: int, used: Usage, *, my_share: int, max_open: int, max_existing: int, reserved: int = SMALLEST_SHARE
) -> int:
    """How many jobs a source may create now, so that none of the bounds is passed: its share, the window, open, existing.

    Where the jobs of idle sources use up `max_existing`, the source still has its `reserved` places.
    """
    room = max(max_existing - used.existing, reserved - used.active_here)
    return max(0, min(my_share - used.active_here, window - used.active_in_all, max_open - used.open_in_all, room))


class Window:
    """The window of all sources: what is due in each, which are idle, and the throughput that was measured."""

    def __init__(
        self, jobs: JobTable, finished: FinishedJobs, *, max_open: int, max_finished: int, clock: Clock
    ) -> None:
        self._jobs = jobs
        self._finished = finished
        self._max_open = max_open
        # Jobs of idle sources (suspended, stalled, their provider away) may be open beside those that are worked on.
        self._max_existing = 2 * max_open + max_finished
        self._max_finished = max_finished
        self._clock = clock
        self._throughput = Throughput()
        self._due: dict[str, int] = {}
        self._idle: set[str] = set()

    @property
    def size(self) -> int:
        """How many jobs may be active now, in all sources."""
        return window_size(self._max_open, per_s=self._throughput.per_s(self._clock.monotonic()))

    def record_done(self) -> None:
        """A job is done."""
        self._throughput.record(self._clock.monotonic())

    def record_due(self, source: str, rows: int) -> None:
        self._due[source] = rows

    def set_idle(self, source: str, idle: bool) -> None:
        """Whether the source's open jobs cannot be worked on at the moment: then they take no place in the window."""
        (self._idle.add if idle else self._idle.discard)(source)

    def forget(self, source: str) -> None:
        """The source was deleted."""
        self._idle.discard(source)
        self._due.pop(source, None)

    def free(self, source: str) -> int:
        """How many jobs this source may create now."""
        idle = self._idle - {source}
        size = self.size
        used = Usage(
            active_here=self._jobs.count(ACTIVE, source=source),
            active_in_all=self._jobs.count(ACTIVE, excluding=idle),
            open_in_all=self._jobs.count(OPEN, excluding=idle),
            existing=self._jobs.count(OPEN) + self._finished.count,
        )
        due = {name: rows for name, rows in self._due.items() if name not in idle}
        return free_places(
            size,
            used,
            my_share=share(size, due, source),
            max_open=self._max_open,
            max_existing=self._max_existing if idle else self._max_existing - self._max_open,
            # Jobs that finish faster than they expire wait for the expiry, or their number would have no bound.
            reserved=SMALLEST_SHARE if self._finished.count <= self._max_finished else 0,
        )

    def has_room(self) -> bool:
        """Whether half of the window is free: looking for due rows earlier would cost more than it finds."""
        return self._jobs.count(ACTIVE) <= self.size // 2
