"""Creates the EmbeddingJob of a due row. Called by the sweep, for several rows at once.

Each row gets at most five jobs a minute, and none beyond the window. refusals.py decides what follows when jobs are refused.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from embedding_operator.api_errors import (
    AlreadyExists,
    ApiServerUnavailable,
    ApiServerUnreachable,
    Gone,
    RequestRefused,
    Unauthorized,
)
from embedding_operator.api_server import ApiServer
from embedding_operator.reconciler.job_rate import JobRate
from embedding_operator.reconciler.refusals import FIRST_PAUSE_S, ROW_PAUSE_S, Refusals, Refused
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.reconciler.tracked_job import JobState, TrackedJob
from embedding_operator.resources.embedding_job import JobSpec, SourceRef, job_manifest, job_name, parse_job
from embedding_worker.clock import Clock
from embedding_worker.rows.records import DueRow

log = structlog.get_logger(__name__)

CREATED_AT_ONCE = 8
"""With more, each create only takes longer, and an edited row waits for those that are being sent."""
WhyLeftOut = tuple[str, str]
"""Reason and sentence."""
TOO_MANY_JOBS = (
    "TooManyJobs",
    "it has had five jobs within a minute, because something changes its text again and again, such as a trigger of the "
    "application: it gets its next job when the minute is over",
)
NAME_TAKEN = (
    "NameTaken",
    "a job with the name that its job needs belongs to another row, or is being deleted: it is tried again within a minute",
)


class JobCreator:
    """Creates the jobs of one source in one configuration, and knows which of its rows are left out for a while."""

    def __init__(self, source: str, fingerprint: str, *, server: ApiServer, jobs: JobRegisters, clock: Clock) -> None:
        self._source = source
        self._fingerprint = fingerprint
        self._server = server
        self._table, self._finished, self._window = jobs.table, jobs.finished, jobs.window
        self._clock = clock
        self._rate = JobRate()
        self._refusals = Refusals()
        self._left_out: dict[str, tuple[float, WhyLeftOut]] = {}
        """Until when, and why."""
        self._refused_creates = 0
        self._not_logged = 0
        self._logged_at = float("-inf")

    @property
    def refused(self) -> tuple[str, str] | None:
        """Reason and message where someone must act before all jobs can be created; None otherwise."""
        return self._refusals.shared(self._clock.monotonic())

    def count_refused(self) -> int:
        """How many create requests were refused since the last call."""
        number, self._refused_creates = self._refused_creates, 0
        return number

    def left_out(self) -> list[str]:
        """The business ids that get no job at the moment, because a job or a write was refused a short time ago."""
        now = self._clock.monotonic()
        self._rate.forget_old(now)
        self._left_out = {row: (until, why) for row, (until, why) in self._left_out.items() if until > now}
        return [*self._left_out, *self._refusals.left_out(now)]

    def leave_out(self, business_id: str, why: WhyLeftOut, *, for_s: float = ROW_PAUSE_S) -> None:
        """Create no job for this row until the time is over."""
        self._left_out[business_id] = (self._clock.monotonic() + for_s, why)

    def why_left_out(self, business_id: str) -> WhyLeftOut | None:
        """Reason and sentence if this row gets no job at the moment, whatever room there is; None otherwise."""
        now = self._clock.monotonic()
        until, why = self._left_out.get(business_id, (now, NAME_TAKEN))
        if until > now:
            return why
        return self._refusals.why_left_out(business_id, now)

    def retry_refused(self) -> None:
        """Forget what was refused: the API server has returned from an outage, in which it may have refused anything."""
        self._refusals = Refusals()

    def limit(self, *, edited: bool = False, after: int = 0) -> int:
        """How many jobs may be created now, or for edited rows, or when `after` more jobs of the source are finished.

        As many as the window has room for, or a few probes while jobs are refused.

        None while the statuses of the source's jobs are refused: their rows would be paid for again and again.
        """
        if self._table.refused.shared(self._source) is not None:
            return 0
        free = self._window.free(self._source, edited=edited, after=after)
        return self._refusals.limit(free, self._clock.monotonic())

    @property
    def probing(self) -> bool:
        """Whether jobs are refused, so that many rows have to be looked at to find one whose job is accepted."""
        return self._refusals.holding

    async def create(self, rows: Iterable[DueRow], *, at_most: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Create so many jobs for these rows, unless a row has had too many within a minute. Refused creates are not raised.

        While jobs are refused, only a few of the rows are tried. Once `stop` is true, only edited rows get jobs, except for the
        first CREATED_AT_ONCE others: under steady edits, the other rows must get jobs too.
        Raises ApiServerUnavailable if the API server cannot be reached, or if it is overloaded for the moment.
        """
        rows = self._chosen(list(rows))[:at_most]
        at_once = asyncio.Semaphore(CREATED_AT_ONCE)
        not_stopped = {row.id for row in [row for row in rows if not row.edited][:CREATED_AT_ONCE]}

        async def create_one(row: DueRow) -> bool | Refused:
            async with at_once:
                return (row.edited or row.id in not_stopped or not stop()) and await self._create_one(row)

        results = await asyncio.gather(*map(create_one, rows), return_exceptions=True)
        accepted = [row.id for row, result in zip(rows, results, strict=True) if result is True]
        refused = [result for result in results if isinstance(result, Refused)]
        now = self._clock.monotonic()
        self._refusals.record(accepted, refused, now)
        if refused:
            self._report(refused, now)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        for one in refused:  # only waited for as long as the overload may end by itself
            if isinstance(one.error, ApiServerUnavailable) and self._refusals.shared(now) is None:
                raise one.error

    def _chosen(self, rows: list[DueRow]) -> list[DueRow]:
        if not self.probing:
            return rows
        free, now = self._window.free(self._source), self._clock.monotonic()
        chosen = set(self._refusals.choose([row.id for row in rows], free, now))
        return [row for row in rows if row.id in chosen]

    def _report(self, refused: list[Refused], now: float) -> None:
        """Log one line for all that were refused since the last one, at most one in each pause."""
        self._refused_creates += len(refused)
        self._not_logged += len(refused)
        if now - self._logged_at >= FIRST_PAUSE_S:
            one, number = refused[0], self._not_logged
            self._logged_at, self._not_logged = now, 0
            message = str(one.error)
            log.warning("jobs refused", source=self._source, refused=number, business=one.row, message=message)

    async def _create_one(self, row: DueRow) -> bool | Refused:
        """True: created, or adopted. False: not tried."""
        # Other sources may have used the places that were free meanwhile.
        if not self._window.free(self._source, edited=row.edited):
            return False
        now = self._clock.monotonic()
        tracked = self._tracked(row, row.job_hash, now)
        if self._table.get(tracked.name) is not None:  # a person has created a job with this name for another row
            self.leave_out(row.id, NAME_TAKEN)
            return False
        if not self._rate.allows(row.id, now):
            log.warning("business becomes due again and again", source=self._source, business=row.id)
            self.leave_out(row.id, TOO_MANY_JOBS)
            return False
        self._table.begin_create(tracked)
        try:
            await self._send_create(tracked)
        except (ApiServerUnreachable, Unauthorized):
            raise
        except (RequestRefused, ApiServerUnavailable) as exc:
            return Refused(row.id, tracked.name, exc)
        return True

    def _tracked(self, row: DueRow, content_hash: str, now: float) -> TrackedJob:
        name = job_name(
            source=self._source, business_id=row.id, content_hash=content_hash, fingerprint=self._fingerprint
        )
        return TrackedJob(
            name,
            self._source,
            row.id,
            content_hash,
            self._finished.next_label(now),
            JobState.CREATING,
            since=now,
            newest_mark=row.newest_mark,
            edited=row.edited,
            edited_at=now - row.marked_s_ago if row.edited else None,
        )

    async def _send_create(self, job: TrackedJob) -> None:
        spec = JobSpec(
            source_ref=SourceRef(name=self._source),
            business_id=job.business_id,
            content_hash=job.content_hash,
            fingerprint=self._fingerprint,
        )
        manifest = job_manifest(name=job.name, namespace=self._server.namespace, cohort=job.cohort, spec=spec)
        try:
            version = await self._server.create_job(manifest)
        except AlreadyExists:
            self._table.withdraw(job.name)
            await self._adopt_existing(job)
        except ApiServerUnavailable as exc:
            if not exc.may_have_happened:
                self._table.withdraw(job.name)
            raise  # if it may have been created, it stays Creating, and the next sweep reads it
        except BaseException:
            self._table.withdraw(job.name)
            raise
        else:
            self._rate.record(job.business_id, self._clock.monotonic())
            self._table.confirm_created(job.name, version)

    async def _adopt_existing(self, created: TrackedJob) -> None:
        """A job of this name exists: track it if it is open or a dead letter, else delete it for the next sweep to create."""
        name = created.name
        try:
            job = parse_job(await self._server.job(name))
            if job.metadata.is_being_deleted:  # its name is free when others have removed their finalizers
                log.warning("a job that is being deleted takes the name of a new one", job=name, source=self._source)
                self.leave_out(created.business_id, NAME_TAKEN)
                return
            if not job.is_final:
                self._table.observe(job)
                return
            # The text was edited and then edited back, or the vector was set to null: the same text needs a second job.
            await self._server.delete_job(name, uid=job.metadata.uid)
            self._finished.remove(name)
        except Gone:
            self._finished.remove(name)
