"""Which jobs are open, from memory: the reconciler made them, and the watch of open jobs says when each has left.

So a sweep costs the API server nothing. A job is noted before its create request and dropped when the API server no longer
shows it as open, never earlier: there are at no time two open jobs for one business.
"""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Sequence
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
    edited: bool = False
    """An application has edited the row; false for a backfill, and where it is not known."""
    in_flight: bool = False
    """A handler here is at work on it, and will itself see whether the text has changed."""
    in_backoff: bool = False
    noted_at: float = 0.0
    """On the monotonic clock."""
    seen_by_watch: bool = False


class OpenJobs:
    """Open jobs and dead letters by source and business. Changed only from the event loop. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed_at: dict[str, float] = {}
        self._open: dict[str, OpenJob] = {}
        self._by_business: dict[str, dict[str, str]] = defaultdict(dict)
        self._dead: dict[str, dict[str, OpenJob]] = defaultdict(dict)
        self._one_left = asyncio.Event()
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(deque)

    def __len__(self) -> int:
        return len(self._open)

    def of(self, source: str) -> dict[str, OpenJob]:
        """The source's open jobs, by business id."""
        return {business: self._open[name] for business, name in self._by_business[source].items()}

    def active(self, source: str | None = None, *, but: Collection[str] = ()) -> int:
        """Open jobs that are not in a backoff, of a source, or of all but some."""
        jobs = self._open.values() if source is None else self.of(source).values()
        return sum(not job.in_backoff and job.source not in but for job in jobs)

    def open_but(self, sources: Collection[str]) -> int:
        """All open jobs, but those of some sources."""
        return sum(job.source not in sources for job in self._open.values())

    def count(self, source: str) -> int:
        return len(self._by_business[source])

    def in_flight(self) -> int:
        return sum(job.in_flight for job in self._open.values())

    def names_in_hand(self) -> frozenset[str]:
        """Jobs that a handler here is at work on."""
        return frozenset(job.name for job in self._open.values() if job.in_flight)

    def oldest_unseen_s(self) -> float | None:
        """For how long the oldest open job has been open without any event of the watch; None where there is none."""
        unseen = [job.noted_at for job in self._open.values() if not job.seen_by_watch]
        return self._clock() - min(unseen) if unseen else None

    async def landed(self, *, within_s: float) -> None:
        """Wait until no job is in flight, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.in_flight():
                    self._one_left.clear()
                    await self._one_left.wait()

    def dead_letters(self, source: str) -> dict[str, OpenJob]:
        """The source's dead letters, by business id: no other job is made for them until they are replayed or edited."""
        return dict(self._dead[source])

    def count_dead_letters(self) -> int:
        """Of all sources."""
        return sum(map(len, self._dead.values()))

    def is_edit(self, name: str) -> bool:
        return name in self._open and self._open[name].edited

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
            self.note(_of(job, now))

    def watched(self, job: EmbeddingJob) -> None:
        """The watch shows this job as open."""
        self.seen(job, self._clock())
        if not self._open[job.name].seen_by_watch:
            self._open[job.name] = replace(self._open[job.name], seen_by_watch=True)

    def in_hand(self, name: str, at_work: bool) -> None:
        """A handler here has begun to work on the job, or put it down."""
        if name in self._open:
            self._open[name] = replace(self._open[name], in_flight=at_work, in_backoff=False)
        self._one_left.set()

    def backs_off(self, name: str) -> None:
        """The job is to be tried again after a pause."""
        if name in self._open:
            self._open[name] = replace(self._open[name], in_flight=False, in_backoff=True)
        self._one_left.set()

    def answers(self, job: OpenJob, newest_mark: int) -> None:
        """The job, open or dead, is of the text that this due mark was made for."""
        if job.name in self._open:
            self._open[job.name] = replace(self._open[job.name], newest_mark=newest_mark)
        elif self._dead[job.source].get(job.business_id) == job:
            self._dead[job.source][job.business_id] = replace(job, newest_mark=newest_mark)

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
        known = self._open.get(job.name) or _of(job, self._clock())
        self._dead[job.source][job.spec.business_id] = replace(known, in_flight=False)

    def buried(self, source: str, business_id: str) -> None:
        """The dead letter is superseded, or gone."""
        self._dead[source].pop(business_id, None)

    def is_dead_letter(self, job: EmbeddingJob) -> bool:
        dead = self._dead[job.source].get(job.spec.business_id)
        return dead is not None and dead.name == job.name

    def corrected(self, jobs: Sequence[EmbeddingJob], *, listed_at: float) -> None:
        """Agree with a list of all jobs whose request began at `listed_at`: what a watch may have missed.

        Of a job that has changed here since then, the list is the older news.
        """
        changed_since = {name for name, at in self._changed_at.items() if at >= listed_at}
        dead: dict[str, dict[str, OpenJob]] = defaultdict(dict)
        for source, by_business in self._dead.items():
            dead[source] = {business: job for business, job in by_business.items() if job.name in changed_since}
        for job in jobs:
            if job.name in changed_since:
                continue
            if job.is_open:
                self.seen(job, listed_at)
            elif job.status.phase is Phase.DEAD_LETTERED:
                known = self._dead[job.source].get(job.spec.business_id)
                same = known is not None and known.name == job.name
                dead[job.source][job.spec.business_id] = known if known and same else _of(job, listed_at)
        self._dead = dead
        open_in_list = {job.name for job in jobs if job.is_open}
        for name in list(self._open):
            if name not in open_in_list and name not in changed_since:
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


def _of(job: EmbeddingJob, now: float) -> OpenJob:
    """What is known of a job that somebody else has made, or an earlier process."""
    return OpenJob(
        job.name,
        job.source,
        job.spec.business_id,
        job.spec.content_hash,
        job.cohort,
        in_backoff=job.status.phase is Phase.RETRYING,
        noted_at=now,
    )
