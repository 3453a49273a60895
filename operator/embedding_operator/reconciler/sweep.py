"""One look at a source's due rows: those that are right are cleared, the others get a job each, within the window.

Called by the source's loop. What a due row needs is decided by `sorted_out`; the rest carries it out, concurrently.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import structlog

from embedding_operator.api_server import (
    AlreadyExists,
    ApiServer,
    ApiServerUnavailable,
    Gone,
    Invalid,
    RequestRefused,
)
from embedding_operator.lifecycle.job_status import superseded
from embedding_operator.reconciler import window
from embedding_operator.reconciler.expiry import Cohorts
from embedding_operator.reconciler.open_jobs import OpenJob, OpenJobs
from embedding_operator.resources.embedding_job import JobSpec, Phase, SourceRef, job_manifest, job_name, parsed_job
from embedding_worker.clock import SystemClock
from embedding_worker.rows.store import DueRow, RowStore, VectorWrite
from embedding_worker.writer import Writer

log = structlog.get_logger(__name__)

REFUSED_PAUSE_S = 60.0
"""How long a row whose job the API server refused (a quota, a policy) is left out: the next try would be refused too."""
REVIEW_DEAD_LETTERS_EVERY_S = 60.0
MOST_DEAD_LETTERS = 500
"""Custom resources are the scarce thing, and so many dead letters mean that something is wrong, and costs money."""


@dataclass
class SortedOut:
    """What the due rows of a sweep need."""

    clear: list[str] = field(default_factory=list)
    blank: list[VectorWrite] = field(default_factory=list)
    jobs: list[DueRow] = field(default_factory=list)


def sorted_out(due: Iterable[DueRow]) -> SortedOut:
    """A row that is right already or gone needs its marks cleared; one with no text, a null vector; the others a job."""
    result = SortedOut()
    for row in due:
        if row.up_to_date or row.gone or row.content_hash is None:
            result.clear.append(row.id)
        elif row.blank:
            result.blank.append(VectorWrite(row.id, row.content_hash, None))
        else:
            result.jobs.append(row)
    return result


class Sweeper:
    """Sweeps one source. In all sources together `window()` jobs may be worked on, and `most` may be open."""

    def __init__(
        self,
        source: str,
        store: RowStore,
        server: ApiServer,
        jobs: OpenJobs,
        cohorts: Cohorts,
        *,
        window: Callable[[], int],
        most: int,
        fingerprint: str,
    ) -> None:
        self._source = source
        self._store = store
        self._server = server
        self._jobs = jobs
        self._cohorts = cohorts
        self._window = window
        self._most = most
        self._fingerprint = fingerprint
        self._left_out_until: dict[str, float] = {}
        self._review_dead_letters_at = 0.0
        self._writer = Writer(store, clock=SystemClock())
        self.problem: tuple[str, str] | None = None
        """Reason and sentence, where no job is made until someone acts."""

    async def sweep(self, *, due_by_source: dict[str, int], idle: Collection[str]) -> None:
        """Make jobs for due rows. `idle` sources (suspended, stalled, their provider away) take no part of the window.

        Raises what the store raises, ApiServerUnavailable, and RequestRefused where jobs may not be made at all.
        """
        await self._supersede()
        size = self._window()
        others_idle = set(idle) - {self._source}
        due = {source: rows for source, rows in due_by_source.items() if source not in others_idle}
        free = window.free(
            size,
            active_here=self._jobs.active(self._source),
            active_in_all=self._jobs.active(but=others_idle),
            my_share=window.share(size, due, self._source),
            most=self._most - self._jobs.open_but(others_idle),
        )
        self.problem = _dead_letter_limit(self._jobs.count_dead_letters())
        if self.problem is not None:
            return
        now = time.monotonic()
        self._left_out_until = {row: until for row, until in self._left_out_until.items() if until > now}
        left_out = [*self._jobs.taken(self._source), *self._left_out_until]
        found = sorted_out(await self._store.sweep(leave_out=left_out, limit=free))
        await self._store.clear(found.clear)
        for refused in (await self._writer.write(found.blank)).refused:
            self._left_out_until[refused] = now + REFUSED_PAUSE_S
            log.error("the database refuses a null vector for an empty text", source=self._source, business=refused)
        results = await asyncio.gather(*map(self._begin, found.jobs), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _supersede(self) -> None:
        """Open jobs and dead letters whose text has moved on give way. One that a handler has in hand sees it by itself."""
        mine = {business: job for business, job in self._jobs.of(self._source).items() if not job.in_flight}
        dead = self._jobs.dead_letters(self._source)
        mine |= dead
        known = {business: job.newest_mark for business, job in mine.items()}
        if (now := time.monotonic()) >= self._review_dead_letters_at:
            # A deletion leaves no mark: now and then each dead letter's row is looked at, whatever its marks.
            self._review_dead_letters_at = now + REVIEW_DEAD_LETTERS_EVERY_S
            known |= dict.fromkeys(dead, 0)
        for mark in await self._store.newer_marks(known):
            job = mine[mark.id]
            if mark.content_hash == job.content_hash:
                self._jobs.answers(job, mark.newest_mark)
            else:
                await self._give_way(job, row_gone=mark.content_hash is None)

    async def _give_way(self, job: OpenJob, *, row_gone: bool) -> None:
        try:
            await self._server.patch_job_status(job.name, superseded(row_gone=row_gone))
        except (Gone, RequestRefused) as exc:
            log.info("job was finished meanwhile", job=job.name, message=str(exc))
        else:
            log.info("job superseded", job=job.name, source=self._source, business=job.business_id, row_gone=row_gone)
        if self._jobs.dead_letters(self._source).get(job.business_id) == job:
            self._jobs.buried(self._source, job.business_id)  # no watch shows dead letters
            self._cohorts.finished(job.cohort, time.monotonic())

    async def _begin(self, row: DueRow) -> None:
        """Make the row's job, unless it has had too many within a minute. Noted first, so that it is never made twice."""
        assert row.content_hash is not None  # see sorted_out
        now = time.monotonic()
        if not self._jobs.may_begin(self._source, row.id, now):
            log.warning("business becomes due again and again", source=self._source, business=row.id)
            self._left_out_until[row.id] = now + REFUSED_PAUSE_S
            return
        spec = JobSpec(
            source_ref=SourceRef(name=self._source),
            business_id=row.id,
            content_hash=row.content_hash,
            fingerprint=self._fingerprint,
        )
        name = job_name(
            source=self._source, business_id=row.id, content_hash=row.content_hash, fingerprint=self._fingerprint
        )
        cohort = self._cohorts.label(now)
        self._jobs.note(
            OpenJob(name, self._source, row.id, row.content_hash, cohort, row.newest_mark, row.edited, noted_at=now)
        )
        try:
            await self._server.create_job(
                job_manifest(name=name, namespace=self._server.namespace, cohort=cohort, spec=spec)
            )
        except AlreadyExists:
            self._jobs.left(name)
            await self._take_over(name, row)
        except Invalid as exc:
            self._jobs.left(name)
            self._left_out_until[row.id] = now + REFUSED_PAUSE_S
            log.error("job refused", source=self._source, business=row.id, message=str(exc))
        except ApiServerUnavailable as exc:
            if exc.answered:
                self._jobs.left(name)
            raise  # without an answer it may have been made all the same: the next list will tell
        except BaseException:
            self._jobs.left(name)
            raise
        else:
            self._jobs.began(self._source, row.id, now)

    async def _take_over(self, name: str, row: DueRow) -> None:
        """A job of this name is there already: open or dead it stands, finished it is deleted and made again next time."""
        try:
            job = parsed_job(await self._server.job(name))
            if job.is_open:
                self._jobs.seen(job, time.monotonic())
            elif job.status.phase is Phase.DEAD_LETTERED:
                self._jobs.died(job)
            else:
                # The text was edited away and back, or the vector was cleared: the old story ends here.
                await self._server.delete_job(name, uid=job.metadata.uid)
        except Gone:
            log.debug("job went meanwhile", job=name, business=row.id)


def _dead_letter_limit(dead_letters: int) -> tuple[str, str] | None:
    if dead_letters < MOST_DEAD_LETTERS:
        return None
    message = (
        f"there are {dead_letters} dead letters: no job is made until some of them are replayed or deleted, "
        "or their rows mended"
    )
    return "DeadLetterLimit", message
