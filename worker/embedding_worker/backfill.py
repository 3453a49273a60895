"""Embeds the rows that are due although no edit made them due, page by page, without a job for each.

Run by the operator, or by one of several worker processes, each of which has a share of the change marks. The rows go through the
same pipeline as those of jobs, in batches of their own. A row that fails is handed over to a job, which then has its attempts.
"""

import asyncio
from dataclasses import dataclass, field
from functools import partial

import structlog

from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import Clock
from embedding_worker.errors import Interrupted, Postponed
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest
from embedding_worker.patience import until_answered
from embedding_worker.pipeline import RowPipeline
from embedding_worker.rows.backlog import Share
from embedding_worker.rows.store import RowStore

log = structlog.get_logger(__name__)

MARKS_OF_A_PAGE = 1_000
BATCHES_AHEAD = 2
"""So many batches for each call in flight wait or are being worked on, so that a call is followed by the next one at once."""
PASS_PAUSE_S = 10.0
"""Before the marks are read from the beginning again, where rows were left: locked, or not decided."""
EDITED_MEANWHILE = frozenset({OutcomeKind.TEXT_CHANGED})
"""The edit has a mark of its own, and gets a job; without triggers, the next pass finds the row again."""
LEFT = frozenset({OutcomeKind.ROW_LOCKED}) | EDITED_MEANWHILE
WRITTEN = frozenset({OutcomeKind.EMBEDDED, OutcomeKind.BLANK_TEXT})
"""The write has deleted the marks."""
NEEDS_NOTHING = frozenset({OutcomeKind.ALREADY_FRESH, OutcomeKind.ROW_DELETED, OutcomeKind.ID_INVALID})

RowBatcher = Batcher[RowRequest, RowOutcome]
Outcome = asyncio.Future[RowOutcome]


@dataclass
class Progress:
    """How many rows were worked on. Read by others at any time."""

    done: int = 0
    """Rows that need nothing more: embedded, up to date, without text, or gone."""
    failed: int = 0
    """Rows that were handed over to jobs."""


@dataclass
class Finished:
    """Rows that have their outcomes, by what is still to be done for them."""

    rows: int = 0
    written: int = 0
    clear: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    any_locked: bool = False

    def add(self, row_id: str, outcome: Outcome) -> None:
        self.rows += 1
        error = Interrupted("cancelled") if outcome.cancelled() else outcome.exception()
        if error is not None:
            self.left.append(row_id)
            if not isinstance(error, (Postponed, Interrupted)):  # a defect of ours: the next pass tries the row again
                log.error("row not embedded because of an unexpected error", business=row_id, exc_info=error)
            return
        kind = outcome.result().kind
        self.any_locked |= kind is OutcomeKind.ROW_LOCKED
        if kind in WRITTEN:
            self.written += 1
        elif kind in NEEDS_NOTHING:
            self.clear.append(row_id)
        else:
            (self.left if kind in LEFT else self.failed).append(row_id)


class PendingRows:
    """The rows that are waiting for a call, are being worked on, or have an outcome that was not returned yet."""

    def __init__(self) -> None:
        self._number = 0
        self._finished = Finished()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return self._number

    def add(self, row_id: str, outcome: Outcome) -> None:
        self._number += 1
        outcome.add_done_callback(partial(self._finish, row_id))

    def _finish(self, row_id: str, outcome: Outcome) -> None:
        self._finished.add(row_id, outcome)
        self._some.set()

    async def next_finished(self) -> Finished:
        """Wait until rows have their outcomes, and return those that were not returned before."""
        await self._some.wait()
        self._some.clear()
        finished, self._finished = self._finished, Finished()
        self._number -= finished.rows
        return finished


class Backfill:
    """One share of the backlog of one source. The caller runs the pipeline meanwhile (RowPipeline.running)."""

    def __init__(self, store: RowStore, pipeline: RowPipeline, *, share: Share, concurrency: int, clock: Clock) -> None:
        self._store = store
        self._pipeline = pipeline
        self._share = share
        self._clock = clock
        self._most_pending = pipeline.batcher.max_items * concurrency * BATCHES_AHEAD
        self._make_batcher = partial(
            RowBatcher,
            pipeline.rows.embed_batch,
            max_items=pipeline.batcher.max_items,
            clock=clock,
            concurrency=concurrency,
        )
        self._looks_for_locks = False
        self._draining = asyncio.Event()
        self._woken = asyncio.Event()
        self.progress = Progress()

    def drain(self) -> None:
        """Begin no other call. `run` returns when the calls in flight are written."""
        self._draining.set()
        self._woken.set()

    async def run(self) -> None:
        """Return when no mark of this share is left. Waits while the provider may not be called, or the database is away.

        If the table is refused, it waits until it is cancelled: see RowEmbedder.refusal. Raises SourceRefused.
        """
        async with self._make_batcher() as batcher:
            while await self._pass(batcher) and not self._draining.is_set():
                await self._clock.wait_for(self._draining, within_s=PASS_PAUSE_S)

    async def _pass(self, batcher: RowBatcher) -> bool:
        """Read the marks of the share once, from the oldest to the newest. Returns whether any row was left with its marks."""
        pending = PendingRows()
        after: int | None = 0
        any_left = False
        while after is not None and not self._draining.is_set():
            await self._wait_until_callable()
            after, ids = await self._next_page(after)
            free = await self._that_are_not_locked(ids)
            any_left |= len(free) < len(ids)
            for row_id in free:
                any_left |= await self._leave_room(pending)
                if not self._draining.is_set():
                    pending.add(row_id, batcher.enqueue(RowRequest(row_id)))
        if self._draining.is_set():
            batcher.drain()
        while len(pending):
            any_left |= await self._settle_some(pending)
        return any_left

    async def _wait_until_callable(self) -> None:
        self._woken = asyncio.Event()  # the gate sets it
        await self._pipeline.gate.wait_until_open(self._woken, pause_s=0.0)

    async def _next_page(self, after_seq: int) -> tuple[int | None, list[str]]:
        """The number of the page's last mark, and the ids of its rows."""
        reading = partial(self._store.backlog.page, after_seq=after_seq, limit=MARKS_OF_A_PAGE, share=self._share)
        page = await until_answered("read change marks", reading, clock=self._clock)
        return page.last_seq, page.ids

    async def _that_are_not_locked(self, ids: list[str]) -> list[str]:
        """Without the rows that another session has locked, where such rows were met: they would be paid for in each pass."""
        if not self._looks_for_locks or not ids:
            return ids
        finding = partial(self._store.find_locked, ids)
        locked = await until_answered("look for locked rows", finding, clock=self._clock)
        self._looks_for_locks = bool(locked)
        return [row_id for row_id in ids if row_id not in locked]

    async def _leave_room(self, pending: PendingRows) -> bool:
        """Wait while too many rows are pending. Returns whether a row was left with its marks."""
        any_left = False
        while len(pending) >= self._most_pending and not self._draining.is_set():
            any_left |= await self._settle_some(pending)
        return any_left

    async def _settle_some(self, pending: PendingRows) -> bool:
        """Wait for the next outcomes. Returns whether a row was left with its marks."""
        finished = await pending.next_finished()
        self._looks_for_locks |= finished.any_locked
        if finished.clear:
            clearing = partial(self._store.clear, finished.clear)
            await until_answered("delete change marks", clearing, clock=self._clock)
        if finished.failed:
            handing = partial(self._store.backlog.hand_over, finished.failed)
            await until_answered("hand rows over to jobs", handing, clock=self._clock)
        self.progress.done += finished.written + len(finished.clear)
        self.progress.failed += len(finished.failed)
        return bool(finished.left)
