"""Finished jobs go, a cohort at a time: jobs made within the same half minute share a label, and one request deletes
what is finished of them. It decides only; housekeeping carries it out.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

COHORT_S = 30.0
COHORT_SIZE = 100


@dataclass(frozen=True)
class Cohort:
    finished: int
    """Finished since the last time that this cohort was cleared."""
    youngest_finish: float
    """On the same clock as `now`, in seconds."""


class Cohorts:
    """The cohort that new jobs get, and what is known of the older ones."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._number = 0
        self._begun_at = 0.0
        self._members = 0
        self._cohorts: dict[str, Cohort] = {}

    def label(self, now: float) -> str:
        """The label of a job that is made now. A cohort closes after half a minute, or when it is full."""
        if not self._members or now - self._begun_at >= COHORT_S or self._members >= COHORT_SIZE:
            self._number += 1
            self._begun_at, self._members = now, 0
        self._members += 1
        return f"{self._prefix}-{self._number}"

    def finished(self, label: str, now: float) -> None:
        """A job of this cohort has finished. One without a cohort was made by hand, and is left to who made it."""
        if not label:
            return
        known = self._cohorts.get(label, Cohort(0, now))
        self._cohorts[label] = replace(
            known, finished=known.finished + 1, youngest_finish=max(known.youngest_finish, now)
        )

    def corrected(self, labels: Iterable[str], now: float) -> None:
        """Agree with a list of all jobs: one label for each finished one. Those not known yet count as finished now."""
        listed = Counter(label for label in labels if label)
        before = self._cohorts
        self._cohorts = {
            label: Cohort(count, before[label].youngest_finish if label in before else now)
            for label, count in listed.items()
        }

    def cleared(self, label: str) -> None:
        """What was finished of it is deleted; a later finish makes it known again."""
        self._cohorts.pop(label, None)

    def expired(self, now: float, *, most: int, age_s: float) -> list[str]:
        """The cohorts to clear, oldest first: all of it is old enough, or more than `most` finished jobs are kept."""
        kept = sum(cohort.finished for cohort in self._cohorts.values())
        expired: list[str] = []
        for label, cohort in sorted(self._cohorts.items(), key=lambda item: item[1].youngest_finish):
            if kept > most or now - cohort.youngest_finish >= age_s:
                expired.append(label)
                kept -= cohort.finished
        return expired
