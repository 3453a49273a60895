"""A job as the job table knows it, and the states that it can be in. Pure; the transitions are in job_table.py."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Self

from embedding_operator.resources.embedding_job import EmbeddingJob, Phase


class JobState(Enum):
    CREATING = "Creating"
    """Its create request is being sent, or the answer was lost and the next sweep asks whether the job exists."""
    QUEUED = "Queued"
    """Open; its handler has not started yet, or has stopped working on it without an outcome."""
    RUNNING = "Running"
    """A handler is working on it."""
    SETTLING = "Settling"
    """Its outcome is known, and the patch of its status is being sent."""
    BACKING_OFF = "BackingOff"
    """Its last attempt failed, and the next one starts when its pause is over."""
    POSTPONED = "Postponed"
    """Its handler waits until the provider may be called. Its phase stays as it is."""
    HELD = "Held"
    """Open; the API server refuses its status, and its handler starts again after a pause."""
    DEAD_LETTERED = "DeadLettered"
    """Stays until a person replays or deletes it, or until its row is edited or deleted."""


IN_FLIGHT = frozenset({JobState.RUNNING, JobState.SETTLING})
ACTIVE = frozenset(JobState) - {JobState.BACKING_OFF, JobState.POSTPONED, JobState.HELD, JobState.DEAD_LETTERED}
"""States that count towards the window. The others do not, so that failing rows never prevent jobs for other rows."""
OPEN = frozenset(JobState) - {JobState.DEAD_LETTERED}


STATES = {
    Phase.PENDING: JobState.QUEUED,
    Phase.RETRYING: JobState.BACKING_OFF,
    Phase.DEAD_LETTERED: JobState.DEAD_LETTERED,
}
"""The state that a job gets when the API server shows it in this phase."""


@dataclass(frozen=True)
class TrackedJob:
    name: str
    source: str
    business_id: str
    content_hash: str
    cohort: str
    state: JobState
    since: float
    """When it got its present state, by the monotonic clock."""
    newest_mark: int = 0
    """The newest change mark of which it is known that this job has the row's text; 0 if none is known (after a restart)."""
    edited: bool = False
    """An application has edited the row; False for a first fill, and if it is not known."""
    edited_at: float | None = None
    """When the edit's transaction began, by the monotonic clock; None if no edit is known."""
    not_before: datetime | None = None
    """When the pause of a job in state BackingOff is over."""
    version: int = 0
    """The newest resource version known; an event or a list with an older one is out of date."""
    refusals: int = 0
    """How often its status was refused, one time after the other."""
    held_until: float = 0.0
    """When the pause of a job in state Held is over, by the monotonic clock."""
    woken: asyncio.Event | None = None
    """Of a job in state Postponed: is set when it gets another state, or is removed, so that its handler stops waiting."""
    reason: str = ""
    """What its status shows: why it is a dead letter, or backs off, or waits."""
    reason_since: float = 0.0
    """Since when each of its attempts has ended for this reason, by the monotonic clock."""

    def because_of(self, reason: str, now: float) -> Self:
        """The job after an attempt that has ended for this reason."""
        return self if self.reason == reason else replace(self, reason=reason, reason_since=now)

    def is_held(self, now: float) -> bool:
        """Its status was refused, and it is not yet time to try again."""
        return self.state is JobState.HELD and now < self.held_until

    @property
    def has_handler(self) -> bool:
        """A handler is working on it, or waits until it can."""
        return self.in_flight or self.state is JobState.POSTPONED

    @property
    def in_flight(self) -> bool:
        """A handler is working on it."""
        return self.state in IN_FLIGHT


def why_it_waits(job: EmbeddingJob) -> str:
    """What its status shows of its last attempt. Of a pending job it is what it waited for, which may be another thing now."""
    return "" if job.status.phase is Phase.PENDING else job.status.reason or ""
