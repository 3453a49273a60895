"""The table of all open jobs and dead letters, in memory. Each job is in exactly one state.

The sweep adds jobs, the job runner changes their states, and housekeeping compares the table with a list of all jobs, once at
the start and then every minute. An impossible transition raises ImpossibleTransition; a transition of a job that was removed
meanwhile (the job or its source was deleted) does nothing. The table makes no request and reads no database.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.refused_statuses import RefusedStatuses, pause_s
from embedding_operator.reconciler.tracked_job import IN_FLIGHT, STATES, JobState, TrackedJob, why_it_waits
from embedding_operator.resources.embedding_job import FINISHED, EmbeddingJob
from embedding_worker.clock import Clock

WAITING = (JobState.QUEUED, JobState.BACKING_OFF, JobState.HELD)
CREATE_TAKES_S = 60.0  # longer than a create request may take, its timeout being 30 s


class ImpossibleTransition(Exception):
    """A bug in the operator: a job in its present state cannot get the new state."""


class JobTable:
    def __init__(self, finished: FinishedJobs, *, clock: Clock) -> None:
        self._finished = finished
        self._clock = clock
        self.refused = RefusedStatuses()
        self._jobs: dict[str, TrackedJob] = {}
        self._counts: Counter[tuple[str, JobState]] = Counter()
        self._changed_at: dict[str, float] = {}
        self._change = asyncio.Event()

    def get(self, name: str) -> TrackedJob | None:
        return self._jobs.get(name)

    def jobs(self, source: str | None = None, states: Collection[JobState] = frozenset(JobState)) -> list[TrackedJob]:
        """The jobs of a source (None: of all sources) that are in one of these states."""
        return [job for job in self._jobs.values() if job.state in states and source in (None, job.source)]

    def count(self, states: Collection[JobState], *, source: str | None = None, excluding: Collection[str] = ()) -> int:
        """How many jobs are in these states: of one source, or of all sources but those excluded."""
        found = [key for key in self._counts if key[1] in states and source in (None, key[0])]
        return sum(self._counts[key] for key in found if key[0] not in excluding)

    def sources(self) -> set[str]:
        """The sources that have or had jobs in the table."""
        return {source for source, _ in self._counts}

    def longest_queued_s(self) -> float:
        """How many seconds the oldest Queued job has waited for its handler; 0 if no job is Queued."""
        now = self._clock.monotonic()
        return max((now - job.since for job in self._jobs.values() if job.state is JobState.QUEUED), default=0.0)

    async def wait_until_drained(self, *, within_s: float) -> None:
        """Return when no job is in flight, or when the time is over."""
        deadline = self._clock.monotonic() + within_s
        while self.count(IN_FLIGHT) and (left_s := deadline - self._clock.monotonic()) > 0:
            self._change.clear()
            await self._clock.wait_for(self._change, within_s=left_s)

    # Transitions. Each names the states that it may start from.

    def begin_create(self, job: TrackedJob) -> None:
        """(none) → Creating: a create request is about to be sent. A job of this name must not exist in the table."""
        if job.name in self._jobs:
            raise ImpossibleTransition(f"job {job.name} exists as {self._jobs[job.name].state.value}")
        self._put(replace(job, state=JobState.CREATING, since=self._clock.monotonic()))

    def confirm_created(self, name: str, version: int) -> None:
        """Creating → Queued: the server has created it. In another state, its handler was called before the answer came."""
        job = self._jobs.get(name)
        if job is not None and job.state is JobState.CREATING:
            self._move(job, JobState.QUEUED, version=version)

    def withdraw(self, name: str) -> None:
        """Creating → no job: the server did not create it."""
        job = self._jobs.get(name)
        if job is not None and job.state is JobState.CREATING:
            self._drop(name)

    def observe(self, job: EmbeddingJob) -> bool:
        """The API server shows this job. Returns False if this version of the job is older than the known one.

        A job that was not known, or was Creating or DeadLettered, gets the state of its phase (see STATES). A replay, for
        example, makes a dead letter Queued. Of any other job, only the resource version is recorded.
        """
        known = self._jobs.get(job.name)
        newest = known.version if known is not None else self._finished.version(job.name)
        version = job.metadata.version
        if version < newest:
            return False
        if known is None or known.state in (JobState.CREATING, JobState.DEAD_LETTERED):
            self._put_observed(job, known)
        else:
            self._jobs[job.name] = replace(known, version=version)
        return True

    def start(self, name: str) -> None:
        """Queued, BackingOff or Held → Running: a handler starts to work on it."""
        self._transition(name, JobState.RUNNING, WAITING)

    def postpone(self, name: str, woken: asyncio.Event) -> None:
        """Running → Postponed: the handler waits until the provider may be called, or until the job gets another state."""
        self._transition(name, JobState.POSTPONED, (JobState.RUNNING,))
        if (job := self._jobs.get(name)) is not None:
            self._jobs[name] = replace(job, woken=woken)

    def resume(self, name: str, woken: asyncio.Event) -> bool:
        """Postponed → Running: the handler goes on that has postponed the job. False if the job got another state meanwhile."""
        job = self._jobs.get(name)
        if job is None or job.state is not JobState.POSTPONED or job.woken is not woken:
            return False
        self._move(job, JobState.RUNNING, version=job.version)
        return True

    def release(self, name: str) -> None:
        """Running, Settling or Postponed → Queued: the handler stops working on it, and it stays open."""
        self._transition(name, JobState.QUEUED, (*IN_FLIGHT, JobState.POSTPONED))

    def settle(self, name: str) -> None:
        """Running, Queued, BackingOff or Held → Settling: its new status is known, and the patch is about to be sent."""
        self._transition(name, JobState.SETTLING, (JobState.RUNNING, *WAITING))

    def hold(self, name: str, *, until: float | None = None) -> None:
        """Queued, BackingOff or Held → Held: its status was refused, or (`until`) those of other jobs of its source are."""
        job = self._jobs.get(name)
        if job is None or job.state not in WAITING:
            return
        refusals = job.refusals + (until is None)
        until = self._clock.monotonic() + pause_s(refusals) if until is None else until
        self._move(replace(job, refusals=refusals, held_until=until), JobState.HELD, version=job.version)

    def release_held(self, source: str) -> None:
        """Statuses of the source's jobs are accepted again: the pauses of its held jobs are over."""
        for job in self.jobs(source, {JobState.HELD}):
            self._jobs[job.name] = replace(job, held_until=0.0)

    def back_off(self, name: str, not_before: datetime | None, version: int = 0, *, reason: str = "") -> None:
        """Settling → BackingOff until `not_before`, for this reason."""
        self._transition(name, JobState.BACKING_OFF, (JobState.SETTLING,), version)
        if (job := self._jobs.get(name)) is not None:
            again = job.because_of(reason, self._clock.monotonic())
            self._jobs[name] = replace(again, not_before=not_before, refusals=0)

    def requeue(self, name: str, version: int = 0) -> None:
        """Settling → Queued: the first patch of a replay was accepted, and its event runs the handler."""
        self._transition(name, JobState.QUEUED, (JobState.SETTLING,), version)
        self.explain(name, "", version)

    def explain(self, name: str, reason: str, version: int) -> None:
        """The job's status shows this reason since this version. Its state stays as it is."""
        if (job := self._jobs.get(name)) is not None:
            self._jobs[name] = replace(job, reason=reason, version=max(version, job.version))

    def mark_dead_letter(self, name: str, version: int = 0, *, reason: str = "") -> None:
        """Settling → DeadLettered, for this reason."""
        self._transition(name, JobState.DEAD_LETTERED, (JobState.SETTLING,), version)
        if (job := self._jobs.get(name)) is not None:
            self._jobs[name] = replace(job, reason=reason)

    def finish(self, name: str, version: int = 0) -> None:
        """Any state → no job: its phase is final. FinishedJobs stores it until it expires."""
        job = self._drop(name)
        if job is not None:
            self._finished.add(job.cohort, name, version=max(version, job.version), now=self._clock.monotonic())

    def accept(self, job: EmbeddingJob) -> None:
        """Any state → that of the job as it was just read, because a request was refused, or its answer was lost."""
        if job.is_final:
            self.finish(job.name, job.metadata.version)
        else:
            self._put_observed(job, self._jobs.get(job.name))

    def remove(self, name: str) -> None:
        """Any state → no job: the API server has no job of this name."""
        self._drop(name)
        self._finished.remove(name)

    def answer_mark(self, name: str, newest_mark: int) -> None:
        """The row still has the job's text after this change mark, so the mark needs no other job."""
        job = self._jobs.get(name)
        if job is not None:
            self._jobs[name] = replace(job, newest_mark=newest_mark)

    def forget_source(self, source: str) -> None:
        """The source was deleted: remove its jobs from the table."""
        for job in self.jobs(source):
            self._drop(job.name)
        self.refused.forget(source)

    def resync(self, listed: Iterable[EmbeddingJob], *, listed_at: float) -> None:
        """Make the table agree with a list of all jobs, which was requested at `listed_at` (monotonic).

        Two kinds of jobs are left as they are: those that have changed in the table since then, because the list may be
        older, and those in flight, because their handler learns from the answer to its patch what has happened to them.
        """
        changed = {name for name, at in self._changed_at.items() if at >= listed_at}
        jobs = {job.name: job for job in listed if job.name not in changed}
        for job in jobs.values():
            if job.status.phase in STATES:
                self._resync_one(job)
        kept = changed | {name for name, job in jobs.items() if job.status.phase not in FINISHED}
        for name, known in list(self._jobs.items()):
            being_created = name not in jobs and _is_being_created(known, listed_at)
            if name not in kept and known.state not in IN_FLIGHT and not being_created:
                self._drop(name)
        finished = [job for job in jobs.values() if job.status.phase in FINISHED]
        self._finished.resync(finished, keep=changed, now=listed_at)
        self._changed_at = {name: at for name, at in self._changed_at.items() if at >= listed_at}

    def _resync_one(self, job: EmbeddingJob) -> None:
        known = self._jobs.get(job.name)
        waits = known is not None and known.state in (JobState.HELD, JobState.POSTPONED) and job.is_open
        if known is None or (not waits and known.state not in (*IN_FLIGHT, STATES[job.status.phase])):
            self._put_observed(job, known)
        else:  # the version is lower than before, if a backup of the API server was restored
            self._jobs[job.name] = replace(known, version=job.metadata.version)

    def _put_observed(self, job: EmbeddingJob, known: TrackedJob | None) -> None:
        if job.status.phase not in STATES:
            return
        self._finished.remove(job.name)
        self._put(
            replace(
                (known or _untracked(job)).because_of(why_it_waits(job), now := self._clock.monotonic()),
                state=STATES[job.status.phase],
                since=now,
                not_before=job.status.next_attempt_time,
                version=job.metadata.version,
                woken=None,
            )
        )

    def _transition(self, name: str, to: JobState, allowed: Collection[JobState], version: int = 0) -> None:
        job = self._jobs.get(name)
        if job is None:
            return
        if job.state not in allowed:
            raise ImpossibleTransition(f"job {name} is {job.state.value} and cannot become {to.value}")
        self._move(job, to, version=version)

    def _move(self, job: TrackedJob, to: JobState, *, version: int) -> None:
        now = self._clock.monotonic()
        self._put(replace(job, state=to, since=now, version=max(version, job.version), woken=None))

    def _put(self, job: TrackedJob) -> None:
        self._uncount(job.name)
        self._jobs[job.name] = job
        self._counts[job.source, job.state] += 1
        self._changed(job.name)

    def _drop(self, name: str) -> TrackedJob | None:
        self._uncount(name)
        job = self._jobs.pop(name, None)
        self._changed(name)
        return job

    def _uncount(self, name: str) -> None:
        if (before := self._jobs.get(name)) is not None:
            self._counts[before.source, before.state] -= 1
            if before.woken is not None:
                before.woken.set()

    def _changed(self, name: str) -> None:
        self._changed_at[name] = self._clock.monotonic()
        self._change.set()


def _is_being_created(job: TrackedJob, listed_at: float) -> bool:
    return job.state is JobState.CREATING and listed_at - job.since < CREATE_TAKES_S


def _untracked(job: EmbeddingJob) -> TrackedJob:
    """A job that an earlier process or a person has created."""
    spec = job.spec
    return TrackedJob(job.name, job.source, spec.business_id, spec.content_hash, job.cohort, JobState.QUEUED, since=0.0)
