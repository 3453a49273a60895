"""Embeds a batch of rows: reads them, checks what each needs, embeds the texts, and writes the vectors.

Called by the batcher with the rows that the job runner has submitted. Because of the checks, a second job for the same row
makes no second call. A failure that is not attributed to a row never becomes its outcome: while the database is unavailable,
rows wait here; while the provider is, or where the cause is not known yet, they are released by the error Postponed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from embedding_worker.batching.batch import Batch
from embedding_worker.batching.bisect import FailedAlone, Unattributed
from embedding_worker.clock import Clock
from embedding_worker.errors import CallsPaused, Postponed, ProviderError, TableRefused
from embedding_worker.locked_rows import LockedRows
from embedding_worker.outcome import (
    Decide,
    NeedsEmbedding,
    OutcomeKind,
    RowOutcome,
    RowRequest,
    Settled,
    WriteNull,
    are_of_jobs,
    failed,
    id_invalid,
    outcome,
    row_locked,
    rows_by_text,
)
from embedding_worker.patience import FIRST_PAUSE_S, Unanswered, next_pause, until_answered
from embedding_worker.providers.batch_calls import BatchCalls
from embedding_worker.providers.calls import ProviderCalls
from embedding_worker.rows.records import PresentRow, VectorWrite
from embedding_worker.rows.store import RowStore
from embedding_worker.writer import Writer

log = structlog.get_logger(__name__)

LOCK_PATIENCE_S = 0.5
"""How long a locked row may keep its job's place in the window."""
MOST_FAILING_BATCHES = 8
"""So many batches at once are bisected outside of the slots. Others keep theirs, so that calls do not grow without limit."""

RowBatch = Batch[RowRequest, RowOutcome]
Writes = Mapping[RowRequest, VectorWrite]
Texts = Mapping[RowRequest, NeedsEmbedding]
PresentRows = Mapping[str, PresentRow]
Value = TypeVar("Value")


class RowEmbedder:
    """Embeds rows of one source, a batch at a time: the work of its batcher."""

    def __init__(
        self,
        store: RowStore,
        calls: ProviderCalls,
        *,
        decide: Decide,
        clock: Clock,
        unanswered: Unanswered | None = None,
    ) -> None:
        self._store = store
        self._writer = Writer(store, clock=clock)
        self._locked_rows = LockedRows(clock=clock)
        self._calls = calls
        self._decide = decide
        self._clock = clock
        self._failing = 0
        """So many batches have released their slots because a call has failed, and are being bisected."""
        self._has_written = False
        self.unanswered = unanswered or Unanswered()
        self.refusal: TableRefused | None = None
        """Why the database refuses to read or write any row. The source has to be set up again; until then all rows wait."""

    async def resume_after(self, refusal: TableRefused) -> None:
        """Before the first batch after this refusal: raises RowsRefused if the database still accepts no row."""
        await self._writer.find_accepted(refusal)

    async def embed_batch(self, batch: RowBatch, rows: PresentRows | None = None) -> None:
        """Give every row of the batch its outcome, or release it by Postponed. `rows`: what was read of them a moment ago.

        If the database refuses the table, the rows wait here until the slots end, so that nothing more is sent.
        """
        if requests := self._settle_impossible(batch):
            await self._unless_refused(self._embed_rows(batch, requests, rows))

    async def read(self, ids: Sequence[str]) -> PresentRows:
        """The rows as they are now, by id, for embed_batch. Waits as that does: for the database, and if it refuses the table."""
        return await self._unless_refused(self._read(ids))

    async def _read(self, ids: Sequence[str]) -> PresentRows:
        reading = partial(self._store.read, ids, characters=self._calls.max_text_bytes)
        return await self._until_answered("read rows", reading)

    async def _until_answered(self, what: str, ask: Callable[[], Awaitable[Value]]) -> Value:
        return await until_answered(what, ask, clock=self._clock, unanswered=self.unanswered)

    async def _unless_refused(self, work: Coroutine[Any, Any, Value]) -> Value:
        try:
            return await work
        except TableRefused as exc:
            self.refusal = exc
        never: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        return await never

    def _settle_impossible(self, batch: RowBatch) -> list[RowRequest]:
        """Settle requests for ids that no row can have. Returns the others."""
        possible = []
        for request in batch.items:
            if (problem := self._store.id_problem(request.id)) is not None:
                batch.settle(request, id_invalid(request.id, problem))
            else:
                possible.append(request)
        return possible

    async def _embed_rows(self, batch: RowBatch, requests: list[RowRequest], rows: PresentRows | None) -> None:
        if rows is None:
            rows = await self._read([request.id for request in requests])
        writes: dict[RowRequest, VectorWrite] = {}
        texts: dict[RowRequest, NeedsEmbedding] = {}
        for request in requests:
            match self._decide(request, rows.get(request.id)):
                case Settled(result):
                    batch.settle(request, result)
                case WriteNull(write):
                    writes[request] = write
                case NeedsEmbedding() as needed:
                    if (kept := self._locked_rows.find(request.id, needed.content_hash)) is not None:
                        writes[request] = kept
                    else:
                        texts[request] = needed
        await self._write(batch, writes)
        if texts:
            await self._embed_texts(batch, texts)

    async def _embed_texts(self, batch: RowBatch, texts: Texts) -> None:
        """Embed and write. Releases the rows that have no vector because of a failure that is not attributed to them."""
        await self._until_answered("check the right to write", self._writer.check)
        texts = await self._settle_refused(batch, texts)
        if self.refusal is not None:  # another batch has met it meanwhile: nothing more is paid for
            raise self.refusal
        calls = BatchCalls((needed.text for needed in texts.values()), self._calls)
        work = asyncio.create_task(self._call_and_write(batch, texts, calls), name="calls of a batch")
        batch.keep(work)
        await _until_done_or(calls.failing, work)
        if work.done() or self._failing >= MOST_FAILING_BATCHES:
            await work
        else:
            batch.finish_later(lambda: self._unless_refused(self._finish_failing(work)))

    async def _finish_failing(self, work: "asyncio.Task[None]") -> None:
        """Wait for the calls of a batch one of which has failed. Meanwhile its slot is free for other rows."""
        self._failing += 1
        try:
            await work
        finally:
            self._failing -= 1

    async def _call_and_write(self, batch: RowBatch, texts: Texts, calls: BatchCalls) -> None:
        """After the last call of a backfill's batch, the next one may call: its slots are for calls, and it bounds what waits to
        be written. A batch of jobs keeps its slot, so that no more than two wait, paid for, while the database is away. So does
        each batch until a vector was written: the table may refuse all of them.
        """
        rows_of = rows_by_text(texts)
        not_sent = len(rows_of)
        of_jobs = are_of_jobs(texts)
        released: Counter[ProviderError] = Counter()
        async for outcomes in calls.run():
            not_sent -= len(outcomes)
            if not not_sent and not of_jobs and self._has_written:
                batch.leave_slot()
            vectors: dict[RowRequest, VectorWrite] = {}
            for request, result in ((request, result) for text, result in outcomes for request in rows_of[text]):
                match result:
                    case FailedAlone():
                        batch.settle(request, failed(result.error))
                    case Unattributed():
                        batch.release(request, Postponed(result.error.message, pause_s=result.pause_s))
                        released[result.error] += 1
                    case _:
                        vectors[request] = VectorWrite(request.id, texts[request].content_hash, result)
            if cut := sum(texts[request].is_cut for request in vectors):
                self._calls.usage.add_cut(cut)
            await self._write(batch, vectors)
        for error, rows in released.items():
            level = logging.DEBUG if isinstance(error, CallsPaused) else logging.WARNING
            log.log(level, "rows wait", why=type(error).__name__, message=error.message, rows=rows)

    async def _settle_refused(self, batch: RowBatch, texts: Texts) -> Texts:
        """Where rows were refused before, find out before the call which others would be. Returns the texts of the others."""
        if not self._writer.rehearses:
            return texts
        rehearsing = partial(self._writer.rehearse, [request.id for request in texts])
        tried = await self._until_answered("try to write rows", rehearsing)
        accepted: dict[RowRequest, NeedsEmbedding] = {}
        for request, needed in texts.items():
            if request.id in tried.refused:
                batch.settle(request, failed(tried.refused[request.id]))
            elif request.id in tried.suppressed:
                batch.settle(request, outcome(OutcomeKind.UPDATE_SUPPRESSED))
            else:
                accepted[request] = needed
        return accepted

    async def _write(self, batch: RowBatch, rows: Writes) -> None:
        """Write rows and settle them. A locked row is written later, without another call, and does not delay other rows."""
        if locked := await self._try_to_write(batch, rows):
            batch.finish_later(lambda: self._unless_refused(self._write_locked(batch, locked)))

    async def _try_to_write(self, batch: RowBatch, rows: Writes) -> Writes:
        """Write rows and settle those that can be. Returns the others, which another session has locked."""
        if not rows:
            return {}
        writing = partial(self._writer.write, list(rows.values()), of_jobs=are_of_jobs(rows))
        written = await self._until_answered("write rows", writing)
        self._has_written |= any(row.vector is not None and row.id in written.ids for row in rows.values())
        missing: dict[RowRequest, VectorWrite] = {}
        embedded, blank = outcome(OutcomeKind.EMBEDDED), outcome(OutcomeKind.BLANK_TEXT)
        for request, row in rows.items():
            if row.id in written.refused:
                batch.settle(request, failed(written.refused[row.id]))
            elif row.id in written.suppressed:
                batch.settle(request, outcome(OutcomeKind.UPDATE_SUPPRESSED))
            elif row.id in written.ids:
                self._locked_rows.forget(row)
                batch.settle(request, blank if row.vector is None else embedded)
            else:
                missing[request] = row
        return await self._settle_changed(batch, missing)

    async def _settle_changed(self, batch: RowBatch, rows: Writes) -> Writes:
        """Settle the rows that need no write any more. Returns the others."""
        present = await self._read([request.id for request in rows]) if rows else {}
        locked: dict[RowRequest, VectorWrite] = {}
        for request, row in rows.items():
            match self._decide(RowRequest(row.id, row.content_hash), present.get(row.id)):
                case Settled(result):
                    batch.settle(request, result)
                case _:
                    locked[request] = row
        return locked

    async def _write_locked(self, batch: RowBatch, rows: Writes) -> None:
        """Try for half a second, but once only if the row is known to be locked.

        The vectors of rows that stay locked are kept, and their jobs give up their places in the window.
        """
        for request, row in rows.items():
            if self._locked_rows.keeps(row):
                self._settle_locked(batch, request, row)
        rows = {request: row for request, row in rows.items() if not self._locked_rows.keeps(row)}
        until = self._clock.monotonic() + LOCK_PATIENCE_S
        pause_s = FIRST_PAUSE_S
        while rows and self._clock.monotonic() < until:
            await self._clock.sleep(pause_s)
            pause_s = next_pause(pause_s)
            rows = await self._try_to_write(batch, rows)
        for request, row in rows.items():
            self._settle_locked(batch, request, row)

    def _settle_locked(self, batch: RowBatch, request: RowRequest, row: VectorWrite) -> None:
        since = self._locked_rows.keep(row)
        batch.settle(request, row_locked(since, self._clock.now()))


async def _until_done_or(event: asyncio.Event, work: "asyncio.Task[None]") -> None:
    """Return when the work is done, or the event is set."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
