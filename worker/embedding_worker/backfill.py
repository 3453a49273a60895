"""Embeds the rows that are due although no edit made them due, page by page, without a job for each.

Run by the operator, or by one of several worker processes, each of which has a share of the change marks. The rows go through the
same pipeline as those of jobs, in batches of their own. A row that fails is handed over to a job, which then has its attempts.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from embedding_worker.backfill_pages import Page, PagesAhead
from embedding_worker.batching.batch import Slots
from embedding_worker.clock import Clock
from embedding_worker.errors import Interrupted, Postponed
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest
from embedding_worker.patience import until_answered
from embedding_worker.pipeline import RowPipeline
from embedding_worker.rows.backlog import Share
from embedding_worker.rows.store import RowStore

log = structlog.get_logger(__name__)

BATCHES_AHEAD = 2
"""So many batches for each call in flight may be unfinished: also failing ones, and those whose rows are locked."""
PASS_PAUSE_S = 10.0
"""Before the marks are read from the beginning again, where rows were left: locked, or not decided."""
PAUSED_PASS_S = 0.5
"""The same where they were left only because the provider may not be called: with rate limits, that is so many times a minute."""
WRITTEN = frozenset({OutcomeKind.EMBEDDED, OutcomeKind.BLANK_TEXT})
"""The write has deleted the marks."""
NEEDS_NOTHING = frozenset({OutcomeKind.ALREADY_FRESH, OutcomeKind.ROW_DELETED, OutcomeKind.ID_INVALID})


@dataclass
class Progress:
    """How many rows were worked on. Read by others at any time."""

    done: int = 0
    """Rows that need nothing more: embedded, up to date, without text, or gone."""
    failed: int = 0
    """Rows that were handed over to jobs."""


class Outcomes:
    """What has become of the rows of one pass, by what is still to be done for them."""

    def __init__(self, progress: Progress, note: Callable[[str, RowOutcome], None]) -> None:
        """`note` is called with each row that has failed."""
        self._note = note
        self.pending = 0
        """Rows that are being worked on."""
        self.in_work: set[str] = set()
        """Rows that were read, and have no outcome yet."""
        self.any_left = False
        """Whether a row was left with its marks."""
        self.any_paused = False
        """Rows were left only because the provider may not be called: the gate says when it may."""
        self.any_undecided = False
        self.any_locked = False
        self.unsettled = asyncio.Event()
        """Set when rows get an outcome that leaves something to be done. The gate sets it too, when calls may be made."""
        self._progress = progress
        self._some = asyncio.Event()
        self._clear: list[str] = []
        self._failed: list[str] = []

    def add(self, request: RowRequest, result: RowOutcome | Exception) -> None:
        self.pending -= 1
        self.in_work.discard(request.id)
        self._some.set()
        if isinstance(result, Exception):
            self.any_left = True
            is_paused = isinstance(result, Postponed) and not result.pause_s
            self.any_paused |= is_paused
            self.any_undecided |= not is_paused
            if not isinstance(result, (Postponed, Interrupted)):  # a defect of ours: the next pass tries the row again
                log.error("row not embedded because of an unexpected error", business=request.id, exc_info=result)
        elif result.kind in WRITTEN:
            self._progress.done += 1
        elif result.kind is OutcomeKind.ROW_LOCKED:
            self.any_locked = True
        elif result.kind is OutcomeKind.TEXT_CHANGED:
            self.any_left = (
                True  # the edit has a mark of its own, and a job; without triggers, the next pass finds the row
            )
        else:
            (self._clear if result.kind in NEEDS_NOTHING else self._failed).append(request.id)
            if result.kind not in NEEDS_NOTHING:
                self._note(request.id, result)
            self.unsettled.set()

    @property
    def pass_pause_s(self) -> float:
        """How long to wait before the next pass."""
        return PAUSED_PASS_S if self.any_paused and not (self.any_undecided or self.any_locked) else PASS_PAUSE_S

    @property
    def are_unsettled(self) -> bool:
        return bool(self._clear or self._failed)

    def take_unsettled(self) -> tuple[list[str], list[str]]:
        """The rows whose marks are to be deleted, and those that are to be handed over to jobs."""
        self.unsettled.clear()
        clear, failed, self._clear, self._failed = self._clear, self._failed, [], []
        return clear, failed

    async def wait_for_some(self) -> None:
        """Wait until rows have their outcomes that had none when this was called before."""
        await self._some.wait()
        self._some.clear()


class Backfill:
    """One share of the backlog of one source. The caller runs the pipeline meanwhile (RowPipeline.running)."""

    def __init__(self, store: RowStore, pipeline: RowPipeline, *, share: Share, concurrency: int, clock: Clock) -> None:
        self._store = store
        self._pipeline = pipeline
        self._share = share
        self._clock = clock
        self._batch = pipeline.batcher.max_items
        self._concurrency = concurrency
        self._met_locked_rows = False
        self._draining = asyncio.Event()
        self.progress = Progress()
        self._outcomes = Outcomes(self.progress, self._note)

    def drain(self) -> None:
        """Begin no other call. `run` returns when the calls in flight are written."""
        self._draining.set()
        self._outcomes.unsettled.set()

    async def run(self) -> None:
        """Return when no mark of this share is left. Waits while the provider may not be called, or the database is away.

        If the table is refused, it waits until it is cancelled: see RowEmbedder.refusal. Raises SourceRefused.
        """
        while await self._pass() and not self._draining.is_set():
            await self._clock.wait_for(self._draining, within_s=self._outcomes.pass_pause_s)

    async def _pass(self) -> bool:
        """Read the marks of the share once, from the oldest to the newest. Returns whether any row was left with its marks."""
        slots, outcomes = Slots(self._concurrency), Outcomes(self.progress, self._note)
        self._outcomes = outcomes
        pages = PagesAhead(
            self._store,
            self._pipeline.rows,
            self._share,
            limit=self._batch * self._concurrency,
            without_locked=self._met_locked_rows,
            in_work=outcomes.in_work,
            clock=self._clock,
        )
        try:
            async with pages:
                while (page := await pages.next(unless=self._draining)) is not None:
                    outcomes.any_locked |= page.any_locked
                    outcomes.any_left |= page.any_repeated
                    await self._begin_batches(page, slots)
            await self._wait_until_pending_are(0)
            await self._settle()
        finally:
            await slots.end()
        self._met_locked_rows = outcomes.any_locked
        return outcomes.any_left or outcomes.any_locked

    async def _begin_batches(self, page: Page, slots: Slots) -> None:
        """Begin a batch of these rows whenever a slot is free. Returns when the last one has begun."""
        for first in range(0, len(page.ids), self._batch):
            await self._wait_until_callable()
            await self._wait_until_pending_are(self._batch * self._concurrency * BATCHES_AHEAD - 1)
            await slots.take()
            if self._draining.is_set():
                return
            requests = [RowRequest(row_id) for row_id in page.ids[first : first + self._batch]]
            self._outcomes.pending += len(requests)
            rows = page.present_rows(self._clock.monotonic())
            slots.begin(requests, partial(self._pipeline.rows.embed_batch, rows=rows), give=self._outcomes.add)

    async def _wait_until_pending_are(self, rows: int) -> None:
        """Return when at most so many rows have no outcome."""
        while self._outcomes.pending > rows:
            await self._outcomes.wait_for_some()
            await self._settle()

    async def _wait_until_callable(self) -> None:
        """Wait while the provider may not be called. Meanwhile rows of earlier batches are settled."""
        while True:
            await self._settle()
            if self._draining.is_set():
                return
            await self._pipeline.gate.wait_until_open(self._outcomes.unsettled, pause_s=0.0)
            if not self._outcomes.are_unsettled:
                return

    def _note(self, row_id: str, result: RowOutcome) -> None:
        """Have a failure recorded with the last outcomes of its row: no job shows it."""
        self._pipeline.outcomes.add(row_id, result.handed_over(self._clock.now()))

    async def _settle(self) -> None:
        """Do what is still to be done for rows that have their outcomes."""
        clear, failed = self._outcomes.take_unsettled()
        if clear:
            await until_answered("delete change marks", partial(self._store.clear, clear), clock=self._clock)
            self.progress.done += len(clear)
        if failed:
            handing = partial(self._store.backlog.hand_over, failed)
            await until_answered("hand rows over to jobs", handing, clock=self._clock)
            self.progress.failed += len(failed)
