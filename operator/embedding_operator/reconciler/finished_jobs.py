"""The finished jobs that the API server still holds, and which of them expire. Pure: housekeeping deletes them.

Jobs created within half a minute, at most 100, share a label: a cohort. One request deletes the finished jobs of a cohort.
A job without that label was created by a person; it is known here, so that old events of it are recognised, and never deleted.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from embedding_operator.resources.embedding_job import EmbeddingJob

COHORT_S = 30.0
COHORT_SIZE = 100
MARGIN, MOST_OF_KEPT = 200, 0.4
"""If too many finished jobs are kept, so many more are deleted, but at most this part of those that may be kept. Without it, jobs
that finished during a deletion took the room of new ones, so that every few seconds no job was open."""


@dataclass
class Cohort:
    versions: dict[str, int] = field(default_factory=dict)
    """The resource version of each finished job, by name."""
    youngest_finish: float = 0.0
    """When the last of them finished, by the monotonic clock."""


class FinishedJobs:
    """Finished jobs by cohort, and the cohort that new jobs get. All moments are of the monotonic clock, in seconds."""

    def __init__(self, prefix: str) -> None:
        """`prefix` tells the cohorts of this process from those of an earlier one."""
        self._prefix = prefix
        self._number = 0
        self._began_at = 0.0
        self._members = 0
        self._cohorts: dict[str, Cohort] = {}
        self._cohort_of: dict[str, str] = {}

    @property
    def count(self) -> int:
        """How many finished jobs there are that will expire."""
        return len(self._cohort_of) - len(self._cohorts.get("", Cohort()).versions)

    def next_label(self, now: float) -> str:
        """The label of a job that is created now. A cohort closes after half a minute, or when it is full."""
        if not self._members or now - self._began_at >= COHORT_S or self._members >= COHORT_SIZE:
            self._number += 1
            self._began_at, self._members = now, 0
        self._members += 1
        return f"{self._prefix}-{self._number}"

    def version(self, name: str) -> int:
        """The resource version with which this job finished; 0 where no such job is known."""
        label = self._cohort_of.get(name)
        return 0 if label is None else self._cohorts[label].versions[name]

    def add(self, label: str, name: str, *, version: int, now: float) -> None:
        """This job has finished."""
        self.remove(name)
        cohort = self._cohorts.setdefault(label, Cohort())
        cohort.versions[name] = version
        cohort.youngest_finish = max(cohort.youngest_finish, now)
        self._cohort_of[name] = label

    def remove(self, name: str) -> None:
        """The API server has no finished job of this name any longer."""
        label = self._cohort_of.pop(name, None)
        if label is not None:
            cohort = self._cohorts[label]
            del cohort.versions[name]
            if not cohort.versions:
                del self._cohorts[label]

    def members(self, label: str) -> list[str]:
        return list(self._cohorts[label].versions) if label in self._cohorts else []

    def resync(self, listed: Iterable[EmbeddingJob], *, keep: Collection[str], now: float) -> None:
        """Agree with a list of the finished jobs, except for those in `keep`, which have changed since it was requested.

        A job that was not known counts as finished now.
        """
        names = set()
        for job in listed:
            names.add(job.name)
            if (label := self._cohort_of.get(job.name)) is None:
                self.add(job.cohort, job.name, version=job.metadata.version, now=now)
            elif job.name not in keep:  # lower than before, if a backup of the API server was restored
                self._cohorts[label].versions[job.name] = job.metadata.version
        for name in set(self._cohort_of) - names - set(keep):
            self.remove(name)

    def expired(self, now: float, *, max_kept: int, age_s: float) -> list[str]:
        """The cohorts to delete, oldest first: all of it is older than `age_s`, or more than `max_kept` jobs are kept.

        In the second case some more than necessary: while the API server deletes them, others finish.
        """
        kept = self.count
        most = max_kept if kept <= max_kept else max_kept - min(MARGIN, int(MOST_OF_KEPT * max_kept))
        expired: list[str] = []
        by_age = sorted(self._cohorts.items(), key=lambda item: item[1].youngest_finish)
        for label, cohort in by_age:
            if label and (kept > most or now - cohort.youngest_finish >= age_s):
                expired.append(label)
                kept -= len(cohort.versions)
        return expired
