"""Decides how many jobs may be open, and how many a source may create now. Called by the sweep and by the metrics.

The window is as large as the number of jobs that are finished in two seconds, and 200 at least. These are enough to fill the
batches, and few for the API server: it handles about 1,500 small objects in a namespace without difficulty.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.tracked_job import ACTIVE, OPEN, JobState
from embedding_worker.clock import Clock

SMALLEST = 200
"""Two batches of a hundred rows: one in flight, and one that is being filled."""
SECONDS_AHEAD = 2.0
MEASURED_OVER_S = 10.0
OF_A_SOURCE_OVER_S = 60.0
"""For estimates, which need not follow as fast as the window."""
SMALLEST_SHARE = 5
UNDECIDED_SHARE = 50
"""Of a source that may begin a backfill once more of its table is read: rows that get a job now would need none then."""
FOR_EDITS = 20
"""So many jobs of edited rows may be active beyond the window: a first fill keeps it full, for two seconds or so. No more
than `max_open` are open with them.
"""
WAITING_IN_VAIN = frozenset({JobState.POSTPONED})
"""While a source's provider cannot be called, its jobs that wait for it count: more of them would be of no help."""


class Throughput:
    """How many jobs per second were done in the last seconds. `now` is the time of the monotonic clock."""

    def __init__(self, over_s: float = MEASURED_OVER_S) -> None:
        self._over_s = over_s
        self._done: deque[float] = deque()

    def record(self, now: float) -> None:
        """A job is done."""
        self._done.append(now)
        self._forget_old(now)

    def per_s(self, now: float) -> float:
        self._forget_old(now)
        if not self._done:
            return 0.0
        # In the beginning, the time since the first job is used, but at least one second.
        return len(self._done) / min(self._over_s, max(1.0, now - self._done[0]))

    def _forget_old(self, now: float) -> None:
        while self._done and self._done[0] < now - self._over_s:
            self._done.popleft()


def window_size(max_open: int, *, per_s: float) -> int:
    """How many jobs may be active in all sources: two seconds of the measured throughput, between SMALLEST and `max_open`."""
    return min(max_open, max(SMALLEST, round(per_s * SECONDS_AHEAD)))


def share(limit: int, due: Mapping[str, int], source: str) -> int:
    """How much of the window this source may use: in proportion to its due rows, but at least SMALLEST_SHARE.

    A source may use all of it if no other source has due rows, or if it has none itself. So the first fill of a large table
    never stops a small one.
    """
    mine = due.get(source, 0)
    total = sum(due.values())
    if mine == 0 or mine == total:
        return limit
    return min(limit, max(SMALLEST_SHARE, limit * mine // total))


@dataclass(frozen=True)
class Usage:
    """How many jobs there are at the moment. `..._in_all` counts all sources, except other sources that are idle."""

    active_here: int
    active_in_all: int
    open_in_all: int
    existing: int
    """Open and finished jobs of all sources, including idle ones."""


def free_places(
    window: int, used: Usage, *, my_share: int, max_open: int, max_existing: int, reserved: int = SMALLEST_SHARE
) -> int:
    """How many jobs a source may create now without exceeding its share, the window, `max_open` or `max_existing`.

    If there are `max_existing` jobs, because of idle sources, or `max_open`, because so many wait for their next attempt, the
    source may still have `reserved` active jobs, until twice `max_open` are open.
    """
    left = reserved - used.active_here
    room = max(max_existing - used.existing, left)
    may_open = max(max_open - used.open_in_all, min(left, 2 * max_open - used.open_in_all))
    return max(0, min(my_share - used.active_here, window - used.active_in_all, may_open, room))


class Window:
    """The window of all sources. It stores the due rows of each source, which sources are idle, and the throughput."""

    def __init__(
        self, jobs: JobTable, finished: FinishedJobs, *, max_open: int, max_finished: int, clock: Clock
    ) -> None:
        self._jobs = jobs
        self._finished = finished
        self._max_open = max_open
        # Idle sources (suspended, stalled, or without a working provider) may have open jobs in addition to the others.
        self._max_existing = 2 * max_open + max_finished
        self._max_finished = max_finished
        self._clock = clock
        self._throughput = Throughput()
        self._by_source: dict[str, Throughput] = defaultdict(lambda: Throughput(OF_A_SOURCE_OVER_S))
        self._due: dict[str, int] = {}
        self._sharing: set[str] = set()
        self._idle: set[str] = set()
        self._undecided: set[str] = set()

    @property
    def size(self) -> int:
        """How many jobs may be active now, in all sources."""
        return window_size(self._max_open, per_s=self._throughput.per_s(self._clock.monotonic()))

    def record_done(self, source: str) -> None:
        """A job of this source is done."""
        now = self._clock.monotonic()
        self._throughput.record(now)
        self._by_source[source].record(now)

    def per_s(self, source: str) -> float:
        """How many jobs of this source per second were done in the last minute; 0 if none was."""
        return self._by_source[source].per_s(self._clock.monotonic()) if source in self._by_source else 0.0

    def record_due(self, source: str, rows: int, *, jobs_for_all: bool = True) -> None:
        """So many rows are due. If a backfill embeds most of them without jobs, they claim no share of the window."""
        self._due[source] = rows
        (self._sharing.add if jobs_for_all else self._sharing.discard)(source)

    def due(self, source: str) -> int:
        """How many rows were due when they were last counted."""
        return self._due.get(source, 0)

    @property
    def idle(self) -> frozenset[str]:
        """The sources that cannot be worked on now."""
        return frozenset(self._idle)

    def set_idle(self, source: str, idle: bool) -> None:
        """Set whether the source is idle: its open jobs cannot be worked on now, so they do not count towards the window."""
        (self._idle.add if idle else self._idle.discard)(source)

    def set_undecided(self, source: str, undecided: bool) -> None:
        """Set whether it is not known yet if a backfill is to embed the rows of the source: meanwhile few of them get jobs."""
        (self._undecided.add if undecided else self._undecided.discard)(source)

    def forget(self, source: str) -> None:
        """The source was deleted."""
        self._idle.discard(source)
        self._undecided.discard(source)
        self._sharing.discard(source)
        self._due.pop(source, None)
        self._by_source.pop(source, None)

    def share_of(self, source: str) -> int:
        """How much of the window this source may use now."""
        due = {name: rows for name, rows in self._due.items() if name in self._sharing - (self._idle - {source})}
        mine = share(self.size, due, source)
        return min(mine, UNDECIDED_SHARE) if source in self._undecided else mine

    def free(self, source: str, *, edited: bool = False, after: int = 0) -> int:
        """How many jobs this source may create now, or how many for edited rows, or when `after` more of its active jobs are
        finished.
        """
        idle = self._idle - {source}
        active = ACTIVE | WAITING_IN_VAIN if source in self._idle else ACTIVE
        used = Usage(
            active_here=self._jobs.count(active, source=source) - after,
            active_in_all=self._jobs.count(ACTIVE, excluding=idle) - after,
            open_in_all=self._jobs.count(OPEN, excluding=idle) - after,
            existing=self._jobs.count(OPEN) + self._finished.count,
        )
        beyond = FOR_EDITS if edited else 0
        return free_places(
            self.size + beyond,
            used,
            my_share=self.share_of(source) + beyond,
            max_open=self._max_open,
            max_existing=self._most_existing(idle),
            # If there are too many finished jobs, no place is reserved until some expire, or their number would have no bound.
            reserved=SMALLEST_SHARE if self._finished.count <= self._max_finished else 0,
        )

    def has_room(self) -> bool:
        """Whether at least half of the window is free, and finished jobs leave room for more. With less, a sweep would find few
        rows for its cost.
        """
        existing, bound = self._jobs.count(OPEN) + self._finished.count, self._most_existing(self._idle)
        may_exist = existing < bound or self._finished.count <= self._max_finished
        return may_exist and self._jobs.count(ACTIVE) <= self.size // 2

    def _most_existing(self, idle: Collection[str]) -> int:
        """How many jobs there may be, open and finished. Those of idle sources may be there in addition."""
        return self._max_existing if idle else self._max_existing - self._max_open
