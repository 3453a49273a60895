"""Decides what a source's status says about its backfill: the counts, the rate, the estimate, and the condition Backfilling.

Pure; called by source_status.py. The facts are collected by the reconciler, which measures the rate with RowRate.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from embedding_operator.lifecycle.condition import Condition
from embedding_operator.resources.base import timestamp

BACKFILLING = "Backfilling"
LARGE_BACKLOG = "LargeBacklogInJobs"
COMPLETED = "Completed"
NO_BACKFILL = "NoBackfill"
MEASURED_S = 60.0
"""The rate is that of the last minute."""
SHORTEST_MEASURED_S = 2.0
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
LONGEST_S = 10 * 365 * DAY_S
"""A later end is not worth an estimate."""


@dataclass(frozen=True)
class BackfillFacts:
    """A backfill that is active, or the last one."""

    total: int
    """Rows that were to be embedded, those that are done included."""
    done: int
    failed: int
    """Rows that got a job each, because they have failed."""
    rows_per_s: float | None
    """In the last minute; None if that is not known yet."""
    workers: int
    """Worker processes; 0 if the operator's process embeds the rows."""
    began_at: datetime
    completed_at: datetime | None = None
    problem: tuple[str, str] | None = None
    """Reason and sentence, where no row is embedded until someone acts."""
    paused: bool = False
    """The source is suspended."""

    @property
    def rate(self) -> float | None:
        """Rows in a second: of the last minute, or of the whole backfill if it is complete."""
        if self.completed_at is None:
            return self.rows_per_s
        return (self.done + self.failed) / max(1.0, (self.completed_at - self.began_at).total_seconds())


@dataclass(frozen=True)
class Backlog:
    """Rows that no edit made due, and that get a job each, because spec.backfill.mode is Jobs."""

    rows: int
    rows_per_s: float | None
    """Of this source that were embedded in a second, lately; None if that is not known."""


class RowRate:
    """Rows in a second, of the last minute, measured from a number that grows."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def record(self, now_s: float, rows: int) -> None:
        """So many rows were done at this time of the monotonic clock. If the number falls, the measurement begins again."""
        if self._samples and rows < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now_s, rows))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - MEASURED_S:
            self._samples.popleft()

    @property
    def rows_per_s(self) -> float | None:
        """None until it was measured for two seconds."""
        if not self._samples:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        measured_s = last_s - first_s
        return (last - first) / measured_s if measured_s >= SHORTEST_MEASURED_S else None


def status(facts: BackfillFacts | None, now: datetime) -> dict[str, Any] | None:
    """The status' part `backfill`. None, which removes it, if there was no backfill."""
    if facts is None:
        return None
    estimate = estimated_completion(facts, now)
    return {
        "progress": f"{facts.done}/{facts.total}",
        "total": facts.total,
        "done": facts.done,
        "failed": facts.failed,
        "rowsPerSecond": None if facts.rate is None else f"{facts.rate:.1f}",
        "estimatedCompletion": None if estimate is None else timestamp(estimate),
        "workers": facts.workers,
        "beganAt": timestamp(facts.began_at),
        "completedAt": None if facts.completed_at is None else timestamp(facts.completed_at),
    }


def estimated_completion(facts: BackfillFacts, now: datetime) -> datetime | None:
    """At the present rate, rounded up to a minute; None if it is complete, or (almost) no row is embedded."""
    if facts.completed_at is not None or not facts.rows_per_s:
        return None
    left_s = max(0, facts.total - facts.done - facts.failed) / facts.rows_per_s
    if left_s > LONGEST_S:
        return None
    return datetime.fromtimestamp(math.ceil((now.timestamp() + left_s) / MINUTE_S) * MINUTE_S, UTC)


def backfilling(facts: BackfillFacts | None, backlog: Backlog | None, *, no_calls: bool = False) -> Condition:
    """The condition Backfilling: whether rows are embedded page by page, and if not, why.

    `no_calls`: the provider may not be called at the moment.
    """
    if facts is not None and facts.completed_at is None:
        return _active(facts, paused=facts.paused or no_calls)
    if backlog is not None:
        return Condition(BACKFILLING, False, LARGE_BACKLOG, large_backlog(backlog))
    if facts is not None:
        return Condition(BACKFILLING, False, COMPLETED, "the last backfill has ended: see status.backfill")
    return Condition(BACKFILLING, False, NO_BACKFILL, "each due row gets an EmbeddingJob")


def sweeping(facts: BackfillFacts | None) -> str:
    """What the condition Ready says of a source that runs."""
    if facts is not None and facts.completed_at is None:
        return "edited rows get an EmbeddingJob each, and the other due rows are those of a backfill: see Backfilling"
    return "every due row gets an EmbeddingJob"


def _active(facts: BackfillFacts, *, paused: bool) -> Condition:
    if facts.problem is not None:
        return Condition(BACKFILLING, False, *facts.problem)
    if paused:
        message = (
            "rows are embedded again when spec.suspend is false and the provider may be called: see the conditions "
            "Ready and ProviderReady"
        )
        return Condition(BACKFILLING, True, "Paused", message)
    message = f"rows that no edit made due are embedded page by page, {where(facts.workers)}: see status.backfill"
    return Condition(BACKFILLING, True, BACKFILLING, message)


def where(workers: int) -> str:
    """Where a backfill with so many workers runs. They are pods, or were started by hand."""
    return f"by {workers} worker{'s' if workers > 1 else ''}" if workers else "in the operator's process"


def large_backlog(backlog: Backlog) -> str:
    """How long the jobs of a large backlog will take, and what could be done. Changes rarely: it contains no exact number."""
    took = "for a time that is not known yet"
    if backlog.rows_per_s:
        took = f"{about(backlog.rows / backlog.rows_per_s)} at the present rate"
    return (
        f"more rows than spec.backfill.threshold are due that no edit made due, and their jobs will take {took}: with "
        "spec.backfill.mode Auto they are embedded page by page, and only rows that fail get a job"
    )


def about(seconds: float) -> str:
    """A duration in words, such as `about 5 hours`, rounded to one unit so that it changes rarely."""
    for unit_s, unit in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")):
        if seconds >= unit_s * 0.9:
            number = max(1, round(seconds / unit_s))
            return f"about {_coarse(number) if unit == 'minute' else number} {unit}{'s' if number > 1 else ''}"
    return "less than a minute"


def _coarse(minutes: int) -> int:
    """Above ten minutes, a multiple of ten."""
    return minutes if minutes < 10 else round(minutes, -1)


def without_estimates(conditions: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conditions without a message that contains an estimate: such a message is no reason to write the status at once."""
    return [
        {key: value for key, value in condition.items() if key != "message" or condition["type"] != BACKFILLING}
        for condition in conditions
    ]
