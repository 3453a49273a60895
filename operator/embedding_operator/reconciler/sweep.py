"""Sweeps a source: deletes the marks of due rows that are up to date, and creates jobs for the others, within the window.

Called by the source's loop. `sort_due` decides what each due row needs, and the Sweeper does it. Jobs are created concurrently.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from embedding_operator.api_errors import Gone, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.job_status import superseded
from embedding_operator.reconciler.dead_letters import LOCKED, DeadLetterReview, DeadLetters
from embedding_operator.reconciler.job_creator import JobCreator, WhyLeftOut
from embedding_operator.reconciler.job_statuses import refresh_job
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.reconciler.tracked_job import IN_FLIGHT, OPEN, JobState, TrackedJob
from embedding_worker.clock import Clock
from embedding_worker.rows.records import DueRow, LastOutcome, Seen, VectorWrite
from embedding_worker.rows.store import RowStore
from embedding_worker.writer import Writer

log = structlog.get_logger(__name__)

LOCKED_PAUSE_S = 5.0
MANY_LOCKED_PAUSE_S = 30.0
FAILING_PAUSE_S = 60.0
ROW_LOCKED = ("RowLocked", "another session has locked the row: it is tried again within half a minute")
TOO_MANY_FAIL = (
    "TooManyDeadLetters",
    "it fails without a call, and so many dead letters exist that it gets none now: correct the others, or delete them",
)
PASSED_OVER = 500
"""How many due rows a sweep looks at after one that has met rows which get no job now."""
NOTHING = Seen(0, 0)
COMING = frozenset({JobState.CREATING, JobState.QUEUED})
SHOWN_LOCKED = 20
"""So many jobs show that rows are locked. If a session has locked thousands, the others get no job until they are free."""


@dataclass
class DuePlan:
    """What the due rows of a sweep need: their marks deleted, a null vector, or a job."""

    clear: list[str] = field(default_factory=list)
    blank: list[DueRow] = field(default_factory=list)
    jobs: list[DueRow] = field(default_factory=list)


def sort_due(due: Iterable[DueRow]) -> DuePlan:
    """A row that is up to date or deleted needs its marks cleared, one without text a null vector, any other a job."""
    plan = DuePlan()
    for row in due:
        if row.up_to_date or row.gone:
            plan.clear.append(row.id)
        elif row.blank:
            plan.blank.append(row)
        else:
            plan.jobs.append(row)
    return plan


class Sweeper:
    """Sweeps one source in one configuration."""

    def __init__(
        self,
        source: str,
        fingerprint: str,
        *,
        store: RowStore,
        server: ApiServer,
        jobs: JobRegisters,
        note: Callable[[str, LastOutcome], None],
        hurry: Callable[[str, str], None],
        clock: Clock,
    ) -> None:
        """`note`: has an outcome recorded with the last outcomes of a row, by its id. `hurry`: see RowPipeline.hurry."""
        self._source = source
        self._store = store
        self._writer = Writer(store, clock=clock)
        self._server = server
        self._table, self._window = jobs.table, jobs.window
        self._note, self._hurry = note, hurry
        self._hurried: dict[str, int] = {}
        """Running jobs whose rows were hurried, and because of which mark: they are read again for newer ones only."""
        self._clock = clock
        self._creator = JobCreator(source, fingerprint, server=server, jobs=jobs, clock=clock)
        self.dead_letters = DeadLetters(source, jobs.table, jobs.window)
        self._review = DeadLetterReview()
        self._passes_over = False
        self._found_none = False
        """The last sweep had room for jobs, and no row was due."""
        self.seen = NOTHING
        """What the last sweep has looked at."""
        self._left_some = False

    @property
    def problem(self) -> tuple[str, str] | None:
        """Reason and message if no job is created until someone acts; None otherwise."""
        return self.dead_letters.limit

    @property
    def jobs_refused(self) -> tuple[str, str] | None:
        """Reason and message if the API server refuses jobs, or their statuses, until someone acts; None otherwise."""
        return self._table.refused.shared(self._source) or self._creator.refused

    def count_refused_creates(self) -> int:
        """How many create requests were refused since the last call."""
        return self._creator.count_refused()

    def retry_refused(self) -> None:
        """Create jobs for rows whose jobs were refused in the next sweep, and not after their pauses."""
        self._creator.retry_refused()

    def why_left_out(self, row_id: str) -> WhyLeftOut | None:
        """Reason and sentence if this due row gets no job at the moment, whatever room there is; None otherwise."""
        return self._creator.why_left_out(row_id)

    def without_jobs_now(self) -> list[str]:
        """The rows that the next sweep leaves out: they have a job, or get none at the moment."""
        return [*{job.business_id for job in self._table.jobs(self._source)}, *self._creator.left_out()]

    @property
    def room(self) -> int:
        """How many jobs may be created now."""
        return self._room(after=0)

    def _room(self, *, after: int) -> int:
        """The same, when so many more jobs of the source are finished."""
        return min(self._creator.limit(after=after), self.dead_letters.may_be_opened + after)

    def more_to_come(self, gathered: int, *, urgent: bool = False) -> bool:
        """Whether jobs will soon be started, while the rows of so many wait for a batch.

        They exist already, or the next sweeps create them, because due rows were left, and there is room for as many again, at
        least when the other jobs in flight are finished. Jobs that back off may leave no room. `urgent`: whether jobs of edited
        rows exist that are about to be started.
        """
        if urgent:
            return any(job.edited for job in self._table.jobs(self._source, COMING))
        if self._table.count(COMING, source=self._source):
            return True
        others = max(0, self._table.count(IN_FLIGHT, source=self._source) - gathered)
        return self._left_some and self.problem is None and gathered <= self._room(after=others)

    @property
    def has_jobs(self) -> bool:
        """Whether there is any job of the source, dead letters among them."""
        return bool(self._table.count(frozenset(JobState), source=self._source))

    @property
    def is_calm(self) -> bool:
        """Whether no row was due, no job is open, and no row waits for the end of a pause: only a new mark makes work."""
        waits = self._table.count(OPEN, source=self._source) or self._creator.left_out()
        return self._found_none and not waits and self.problem is None and self.jobs_refused is None

    async def sweep(
        self, *, edits_only: bool = False, undecided: bool = False, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Create jobs for due rows, as many as the window and the dead letters allow, and supersede jobs whose row has changed.

        `edits_only`: a backfill embeds the other rows, without jobs. `undecided`: one may begin soon (see Window.set_undecided).
        `stop`: whether rows were edited meanwhile, which are to get their jobs before others, in the next sweep. Raises what the
        store raises, ApiServerUnavailable, and RequestRefused if a job may not be read.
        """
        self._window.set_undecided(self._source, undecided)
        self.seen = NOTHING
        await self._resolve_unconfirmed()
        await self._supersede()
        if self.problem is not None:
            return
        due = await self._due_rows(edits_only=edits_only)
        plan = sort_due(due)
        self.seen = Seen(len(due), len(plan.clear))
        await self._store.clear(plan.clear)
        rows = await self._that_are_not_locked([*plan.jobs, *await self._write_blank(plan.blank)])
        rows = await self._that_can_be_shown(rows)
        await self._creator.create(rows, at_most=self.dead_letters.may_be_opened, stop=stop)

    async def _due_rows(self, *, edits_only: bool) -> list[DueRow]:
        leave_out, limit = self.without_jobs_now(), self.room
        if not limit:  # edited rows may still have room
            self._found_none = False
            limit = min(self._creator.limit(edited=True), self.dead_letters.may_be_opened)
            return await self._store.sweep(leave_out=leave_out, limit=limit, edits_only=True)
        if limit and (self._creator.probing or (self._passes_over and self.jobs_refused is None)):
            limit = max(limit, PASSED_OVER)
        self._passes_over = False
        due = await self._store.sweep(leave_out=leave_out, limit=limit, edits_only=edits_only)
        self._found_none = limit > 0 and not due
        if limit:
            self._left_some = len(due) >= limit
        return due

    async def _write_blank(self, blank: list[DueRow]) -> list[DueRow]:
        """Write null vectors. Returns the rows that the database refuses to change: a job shows why. Locked rows wait."""
        written = await self._writer.write([VectorWrite(row.id, row.content_hash or "", None) for row in blank])
        for row in blank:
            if row.id not in written.ids:
                self._creator.leave_out(row.id, ROW_LOCKED, for_s=LOCKED_PAUSE_S)
        return [row for row in blank if row.id in written.suppressed or row.id in written.refused]

    async def _that_can_be_shown(self, rows: list[DueRow]) -> list[DueRow]:
        """Without the rows that are known to fail, where so many dead letters exist that these would be too many.

        They are left out for a minute, so that they take no place of others, and stay due.
        """
        room = self.dead_letters.room
        failing = {row.id for row in rows if row.text_fails}
        if room < len(rows) and self.dead_letters.any_suppressed:
            ids = [row.id for row in rows if not row.text_fails]
            tried = await self._writer.rehearse(ids)
            failing |= tried.suppressed | set(tried.refused)
        left_out = set(sorted(failing)[room:])
        if left_out:
            log.warning(
                "rows that fail get no dead letter, because too many exist", source=self._source, rows=len(left_out)
            )
        return self._pass_over(rows, left_out, TOO_MANY_FAIL, for_s=FAILING_PAUSE_S)

    async def _that_are_not_locked(self, rows: list[DueRow]) -> list[DueRow]:
        """Without the rows that are locked, where several jobs already wait for locks: they are paid for when they are free."""
        waiting = self._table.jobs(self._source, {JobState.BACKING_OFF})
        if not rows or sum(job.reason == LOCKED for job in waiting) < SHOWN_LOCKED:
            return rows
        locked = await self._store.find_locked([row.id for row in rows])
        return self._pass_over(rows, locked, ROW_LOCKED, for_s=MANY_LOCKED_PAUSE_S)

    def _pass_over(self, rows: list[DueRow], ids: set[str], why: WhyLeftOut, *, for_s: float) -> list[DueRow]:
        """Leave these rows out for a while. Returns the others. The next sweep looks at more rows, to get past such rows soon."""
        for row_id in ids:
            self._creator.leave_out(row_id, why, for_s=for_s)
        self._passes_over |= bool(ids)
        return [row for row in rows if row.id not in ids]

    async def _resolve_unconfirmed(self) -> None:
        """Read the jobs whose create request got no answer. These are all Creating jobs, because no sweep is running now."""
        for tracked in self._table.jobs(self._source, {JobState.CREATING}):
            await refresh_job(self._server, self._table, tracked.name)

    async def _supersede(self) -> None:
        """Supersede open jobs and dead letters whose text has changed. The handlers of running jobs are to notice it soon."""
        now = self._clock.monotonic()
        not_held = [job for job in self._table.jobs(self._source) if not job.is_held(now)]
        jobs = {job.business_id: job for job in not_held if job.state is not JobState.SETTLING}
        running = {job.name for job in not_held if job.state is JobState.RUNNING}
        self._hurried = {name: mark for name, mark in self._hurried.items() if name in running}
        known = {business: self._hurried.get(job.name, job.newest_mark) for business, job in jobs.items()}
        if self._review.is_due(now):
            self._review.record(now)
            dead = (business for business, job in jobs.items() if job.state is JobState.DEAD_LETTERED)
            known |= dict.fromkeys(dead, 0)
        for mark in await self._store.newer_marks(known):
            job = jobs[mark.id]
            if not mark.gone and mark.job_hash == job.content_hash:
                self._table.answer_mark(job.name, mark.newest_mark)
            elif (present := self._table.get(job.name)) is not None and present.state is JobState.RUNNING:
                self._hurry(job.business_id, job.content_hash)
                self._hurried[job.name] = mark.newest_mark
            else:
                await self._supersede_job(job, row_gone=mark.gone)

    async def _supersede_job(self, job: TrackedJob, *, row_gone: bool) -> None:
        present = self._table.get(job.name)
        if present is None or present.state in IN_FLIGHT:
            return  # its handler has started meanwhile, and will notice the change
        try:
            now = self._clock.now()
            patch = superseded(row_gone=row_gone, now=now)
            version = await self._server.patch_job_status(job.name, patch)
        except Gone:
            self._table.remove(job.name)
        except RequestRefused as exc:  # it was finished meanwhile, or a policy forbids it
            log.info("job not superseded", job=job.name, message=str(exc))
            await refresh_job(self._server, self._table, job.name)
            self._table.hold(job.name)
        else:
            log.info("job superseded", job=job.name, source=self._source, business=job.business_id, row_gone=row_gone)
            self._table.finish(job.name, version)
            self._note(
                job.business_id, LastOutcome(now, patch["phase"].value, patch["reason"], patch["message"], attempt=0)
            )
