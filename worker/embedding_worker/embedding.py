"""Make a batch of rows fresh: read, check, embed, write. The three checks that make a second job for a row harmless.

Called by the batcher with what the job handlers gave it. It waits out what is nobody's fault (the database away, a failing
provider, a locked row); a row's outcome is what became of it, or a failure of its own.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TypeVar

import structlog

from embedding_worker.batching.batcher import Batch
from embedding_worker.errors import DatabaseUnavailable, InputRejected, ProviderError, RowsLocked
from embedding_worker.providers.attribution import charged
from embedding_worker.providers.calls import ProviderCalls
from embedding_worker.providers.embedder import Vector
from embedding_worker.rows.store import PresentRow, RowStore, VectorWrite
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash, fit_text, is_blank
from embedding_worker.writer import Writer

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
Argument = TypeVar("Argument")
Answer = TypeVar("Answer")


class OutcomeKind(Enum):
    EMBEDDED = "Embedded"
    ALREADY_FRESH = "AlreadyFresh"
    BLANK_TEXT = "BlankText"
    ROW_DELETED = "RowDeleted"
    TEXT_CHANGED = "TextChanged"
    INPUT_REJECTED = "InputRejected"
    FAILED = "Failed"


@dataclass(frozen=True)
class RowRequest:
    """One row that is to become fresh with the text that was seen when it was found due."""

    id: str
    content_hash: str


@dataclass(frozen=True)
class RowOutcome:
    kind: OutcomeKind
    reason: str
    message: str
    embed_ms: int | None = None
    """The provider's call, shared by its batch; None where none was made."""
    code: str = ""
    """The provider's own code for a failure."""


def outcome(kind: OutcomeKind, *, embed_ms: int | None = None) -> RowOutcome:
    return RowOutcome(kind, kind.value, MESSAGES[kind], embed_ms)


MESSAGES = {
    OutcomeKind.EMBEDDED: "the vector was written",
    OutcomeKind.ALREADY_FRESH: "the row already has the vector of its present text",
    OutcomeKind.BLANK_TEXT: "the text is empty: the vector is null, and no call was made",
    OutcomeKind.ROW_DELETED: "the row is gone",
    OutcomeKind.TEXT_CHANGED: "the text has changed since: the new one has a job of its own",
}


def failed(error: ProviderError) -> RowOutcome:
    """A failure that is charged to the row: its text was refused, or its call failed and its neighbours' did not."""
    if isinstance(error, InputRejected):
        return RowOutcome(OutcomeKind.INPUT_REJECTED, error.reason, error.message, code=error.code)
    return RowOutcome(OutcomeKind.FAILED, type(error).__name__, error.message, code=error.code)


def decided(request: RowRequest, row: PresentRow | None) -> RowOutcome | VectorWrite | str:
    """What the row needs: nothing more (an outcome), a null vector (a row to write), or an embedding (its text)."""
    if row is None:
        return outcome(OutcomeKind.ROW_DELETED)
    if row.up_to_date:
        return outcome(OutcomeKind.ALREADY_FRESH)
    if content_hash(row.text) != request.content_hash:
        return outcome(OutcomeKind.TEXT_CHANGED)
    if is_blank(row.text):
        return VectorWrite(row.id, request.content_hash, None)
    return row.text


class RowEmbedder:
    """Makes rows of one source fresh, a batch at a time: the work of its batcher."""

    def __init__(self, store: RowStore, calls: ProviderCalls, *, too_long: TooLong) -> None:
        self._store = store
        self._writer = Writer(store)
        self._calls = calls
        self._too_long = too_long

    async def embed_batch(self, batch: Batch[RowRequest, RowOutcome]) -> None:
        """Settles every row of the batch. What is nobody's fault is waited out; each look reads the rows anew."""
        left = list(range(len(batch.items)))
        pause_s = FIRST_PAUSE_S
        while left := await self._look(batch, left):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            random.shuffle(left)  # two rows that fail together may not share a half again

    async def _look(self, batch: Batch[RowRequest, RowOutcome], places: Sequence[int]) -> list[int]:
        """Settle what can be settled. Returns the places that have to wait for the provider."""
        texts: dict[int, str] = {}
        cleared: dict[int, VectorWrite] = {}
        rows = await patiently("read", self._store.read, [batch.items[place].id for place in places])
        for place in places:
            request = batch.items[place]
            match decided(request, rows.get(request.id)):
                case RowOutcome() as settled:
                    batch.settle(place, settled)
                case VectorWrite() as blank:
                    cleared[place] = blank
                case str() as text:
                    try:
                        texts[place] = fit_text(text, max_bytes=self._calls.max_text_bytes, too_long=self._too_long)
                    except InputRejected as exc:
                        batch.settle(place, failed(exc))
        await self._write(batch, cleared, embed_ms=None)
        return await self._embed(batch, texts) if texts else []

    async def _embed(self, batch: Batch[RowRequest, RowOutcome], texts: dict[int, str]) -> list[int]:
        asked = list(texts)
        vectors_left = set(asked)
        began = time.monotonic()

        async def take(taken: Sequence[int], vectors: Sequence[Vector]) -> None:
            places = [asked[place] for place in taken]
            vectors_left.difference_update(places)
            rows = {
                place: VectorWrite(batch.items[place].id, batch.items[place].content_hash, vector)
                for place, vector in zip(places, vectors, strict=True)
            }
            await self._write(batch, rows, embed_ms=round((time.monotonic() - began) * 1000))

        halved = await self._calls.embed(list(texts.values()), take)
        for place in charged(halved):
            batch.settle(asked[place], failed(halved.failed_alone[place]))
            vectors_left.discard(asked[place])
        if halved.shared is not None:
            log.warning(
                "provider fails",
                error=type(halved.shared).__name__,
                message=halved.shared.message,
                rows=len(vectors_left),
            )
        return sorted(vectors_left)

    async def _write(
        self, batch: Batch[RowRequest, RowOutcome], rows: dict[int, VectorWrite], *, embed_ms: int | None
    ) -> None:
        """Write rows and settle them. One that is locked is written later, without a call, and holds nobody up."""
        if locked := await self._try_to_write(batch, rows, embed_ms):
            batch.later(partial(self._write_locked, batch, locked, embed_ms))

    async def _try_to_write(
        self, batch: Batch[RowRequest, RowOutcome], rows: dict[int, VectorWrite], embed_ms: int | None
    ) -> dict[int, VectorWrite]:
        """Returns the rows that were not written and still have their text: somebody holds them locked."""
        if not rows:
            return {}
        rest = dict(rows)
        written = await patiently("write", self._writer.write, list(rest.values()))
        for place, row in list(rest.items()):
            if row.id in written.refused:
                del rest[place]
                refusal = written.refused[row.id]
                batch.settle(place, RowOutcome(OutcomeKind.FAILED, refusal.reason, refusal.message))
            elif row.id in written.ids:
                del rest[place]
                kind = OutcomeKind.BLANK_TEXT if row.vector is None else OutcomeKind.EMBEDDED
                batch.settle(place, outcome(kind, embed_ms=embed_ms))
        if rest:
            present = await patiently("read", self._store.read, [row.id for row in rest.values()])
            for place, row in list(rest.items()):
                now = decided(batch.items[place], present.get(row.id))
                if isinstance(now, RowOutcome):
                    del rest[place]
                    batch.settle(place, now)
        return rest

    async def _write_locked(
        self, batch: Batch[RowRequest, RowOutcome], rows: dict[int, VectorWrite], embed_ms: int | None
    ) -> None:
        pause_s = FIRST_PAUSE_S
        while rows:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            rows = await self._try_to_write(batch, rows, embed_ms)
            if rows and pause_s == LONGEST_PAUSE_S:
                ids = [row.id for row in rows.values()]
                log.warning("rows stay locked, or a trigger or policy suppresses their update", businesses=ids)


async def patiently(what: str, ask: Callable[[Argument], Awaitable[Answer]], argument: Argument) -> Answer:
    """Ask until there is an answer, with growing pauses, while the database is away or busy: that is nobody's fault."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await ask(argument)
        except (DatabaseUnavailable, RowsLocked) as exc:
            log.warning("waiting", what=what, error=type(exc).__name__, message=str(exc), pause_s=pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
