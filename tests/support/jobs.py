"""Jobs for unit tests: as the API server returns them, as the job table tracks them, and a job table that holds them.

The name of a job is formed from its source, business and text, and all jobs have the same text unless a test names another.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.tracked_job import JobState, TrackedJob
from embedding_operator.resources.embedding_job import COHORT_LABEL, EmbeddingJob, Phase, parse_job
from tests.support.fake_clock import FakeClock
from tests.support.manifests import Json, a_job

COHORT = "cohort-1"
TEXT, OTHER_TEXT = "1" * 64, "2" * 64


def name_of(business: str, *, source: str = "shops", text: str = TEXT) -> str:
    return f"{source}-{business}-{text[:8]}"


def job_body(
    business: str,
    phase: Phase | None = Phase.PENDING,
    *,
    version: int = 0,
    source: str = "shops",
    text: str = TEXT,
    cohort: str = COHORT,
    **status: Any,
) -> Json:
    """A job as the API server returns it. With phase None its status is not set yet."""
    labels = {COHORT_LABEL: cohort} if cohort else {}
    name = name_of(business, source=source, text=text)
    body = a_job(name, labels=labels, sourceRef={"name": source}, businessId=business, contentHash=text)
    body["metadata"] |= {"namespace": "test", "uid": f"uid-of-{name}"}
    body["metadata"] |= {"resourceVersion": str(version)} if version else {}
    return body if phase is None else body | {"status": {"phase": phase} | status}


def shown(business: str, phase: Phase | None = Phase.PENDING, *, version: int = 0, **changes: Any) -> EmbeddingJob:
    """A job as the API server returns it, parsed."""
    return parse_job(job_body(business, phase, version=version, **changes))


def tracked(business: str, *, source: str = "shops", text: str = TEXT, **changes: Any) -> TrackedJob:
    """A job as the sweep describes it before its create request."""
    name = name_of(business, source=source, text=text)
    return TrackedJob(name, source, business, text, COHORT, JobState.CREATING, since=0.0, **changes)


@dataclass
class Register:
    """A job table with its clock and its finished jobs, and a way to add a job in any state."""

    clock: FakeClock = field(default_factory=FakeClock)
    finished: FinishedJobs = field(default_factory=lambda: FinishedJobs("cohort"))
    table: JobTable = field(init=False)

    def __post_init__(self) -> None:
        self.table = JobTable(self.finished, clock=self.clock)

    def add(self, business: str, state: JobState = JobState.QUEUED, *, version: int = 0, **changes: Any) -> str:
        """Add a job of this business, and move it to this state by the transitions that lead there. Returns its name."""
        job, table = tracked(business, **changes), self.table
        table.begin_create(job)
        if state is JobState.CREATING:
            return job.name
        table.confirm_created(job.name, version)
        if state is JobState.QUEUED:
            return job.name
        if state is JobState.HELD:
            table.hold(job.name)
            return job.name
        table.start(job.name)
        if state is JobState.RUNNING:
            return job.name
        if state is JobState.POSTPONED:
            table.postpone(job.name, asyncio.Event())
            return job.name
        table.settle(job.name)
        if state is JobState.BACKING_OFF:
            table.back_off(job.name, None, version)
        if state is JobState.DEAD_LETTERED:
            table.mark_dead_letter(job.name, version)
        return job.name

    def state(self, name: str) -> JobState | None:
        """The job's state; None where it is not tracked."""
        job = self.table.get(name)
        return None if job is None else job.state
