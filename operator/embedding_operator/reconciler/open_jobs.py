"""Which jobs are open, from memory: the reconciler made them, and the watch of open jobs says when each has left.

So a sweep costs the API server nothing. A job is noted before its create request and dropped when the API server no longer
shows it as open, never earlier: there are at no time two open jobs for one business.
"""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from embedding_operator.resources.embedding_job import EmbeddingJob, Phase

MOST_A_MINUTE = 5
"""Jobs for one business in a minute. A person's edits stay below; a row that its own triggers rewrite at every write, and
that can therefore never become fresh, costs this many calls a minute and no more."""


@dataclass(frozen=True)
class OpenJob:
    name: str
    source: str
    business_id: str
    content_hash: str
    cohort: str
    newest_mark: int = 0
    """The newest due mark that this job's text is known to answer; 0 where it is not known (after a restart)."""
    in_flight: bool = False
    """A handler here is at work on it, and will itself see whether the text has changed."""
    noted_at: float = 0.0
    """On the monotonic clock."""


class OpenJobs:
    """Open jobs and dead letters by source and business. Changed only from the event loop. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed_at: dict[str, float] = {}
        self._open: dict[str, OpenJob] = {}
        self._by_business: dict[str, dict[str, str]] = defaultdict(dict)
        self._dead: dict[str, dict[str, str]] = defaultdict(dict)
        self._one_left = asyncio.Event()
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(deque)

    def __len__(self) -> int:
        return len(self._open)

    def of(self, source: str) -> dict[str, OpenJob]:
        """The source's open jobs, by business id."""
        return {business: self._open[name] for business, name in self._by_business[source].items()}

    def count(self, source: str) -> int:
        return len(self._by_business[source])

    def in_flight(self) -> int:
        return sum(job.in_flight for job in self._open.values())

    async def landed(self, *, within_s: float) -> None:
        """Wait until no job is in flight, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.in_flight():
                    self._one_left.clear()
                    await self._one_left.wait()

    def dead_letters(self, source: str) -> frozenset[str]:
        """Ids of the businesses whose job is a dead letter: no job is made for them until it is replayed or edited."""
        return frozenset(self._dead[source])

    def taken(self, source: str) -> list[str]:
        """Ids that a sweep leaves out: they have an open job or a dead letter."""
        return [*self._by_business[source], *self._dead[source]]

    def may_begin(self, source: str, business_id: str, now: float) -> bool:
        """Whether this business has had few enough jobs within the last minute."""
        recent = self._recent[source, business_id]
        while recent and recent[0] < now - 60:
            recent.popleft()
        return len(recent) < MOST_A_MINUTE

    def began(self, source: str, business_id: str, now: float) -> None:
        """A job was made for this business."""
        self._recent[source, business_id].append(now)

    def note(self, job: OpenJob) -> None:
        """The job is open, or about to be made."""
        self._changed_at[job.name] = self._clock()
        self._open[job.name] = job
        self._by_business[job.source][job.business_id] = job.name
        self._dead[job.source].pop(job.business_id, None)

    def seen(self, job: EmbeddingJob, now: float) -> None:
        """The API server shows this job as open."""
        if job.name not in self._open:
            self.note(
                OpenJob(job.name, job.source, job.spec.business_id, job.spec.content_hash, job.cohort, noted_at=now)
            )

    def changed(self, name: str, *, newest_mark: int | None = None, in_flight: bool | None = None) -> None:
        job = self._open.get(name)
        if job is None:
            return
        if newest_mark is not None:
            job = replace(job, newest_mark=newest_mark)
        if in_flight is not None:
            job = replace(job, in_flight=in_flight)
        self._open[name] = job

    def left(self, name: str) -> OpenJob | None:
        """The job is not open any more (or was never made). Returns it where it was known."""
        self._changed_at[name] = self._clock()
        job = self._open.pop(name, None)
        self._one_left.set()
        if job is not None and self._by_business[job.source].get(job.business_id) == name:
            del self._by_business[job.source][job.business_id]
        return job

    def died(self, job: EmbeddingJob) -> None:
        """The job is a dead letter; it leaves the open ones when the API server says so."""
        self._changed_at[job.name] = self._clock()
        self._dead[job.source][job.spec.business_id] = job.name

    def is_dead_letter(self, name: str) -> bool:
        return any(name in by_business.values() for by_business in self._dead.values())

    def corrected(self, jobs: Sequence[EmbeddingJob], *, listed_at: float) -> None:
        """Agree with a list of all jobs whose request began at `listed_at`: what a watch may have missed.

        Of a job that has changed here since then, the list is the older news.
        """
        changed_since = {name for name, at in self._changed_at.items() if at >= listed_at}
        dead: dict[str, dict[str, str]] = defaultdict(dict)
        for source, by_business in self._dead.items():
            dead[source] = {business: name for business, name in by_business.items() if name in changed_since}
        for job in jobs:
            if job.name in changed_since:
                continue
            if job.is_open:
                self.seen(job, listed_at)
            elif job.status.phase is Phase.DEAD_LETTERED:
                dead[job.source][job.spec.business_id] = job.name
        self._dead = dead
        open_in_list = {job.name for job in jobs if job.is_open}
        for name, known in list(self._open.items()):
            if name not in open_in_list and name not in changed_since and not known.in_flight:
                self.left(name)
        self._changed_at = {name: at for name, at in self._changed_at.items() if at >= listed_at}
        self._recent = defaultdict(
            deque, {key: times for key, times in self._recent.items() if times and times[-1] > listed_at - 60}
        )

    def forget(self, source: str) -> None:
        """The source is gone, and its jobs with it."""
        for name in self._by_business.pop(source, {}).values():
            self._open.pop(name, None)
        self._dead.pop(source, None)
