"""Make a batch of rows fresh: read, check, embed, write. The three checks that make a second job for a row harmless.

Called by the batcher with what the job handlers gave it. It waits out what is nobody's fault (the database away, a
provider's failure, a locked row), so each row's outcome is final.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import structlog

from embedding_worker.batcher import Batch
from embedding_worker.errors import DatabaseUnavailable, InputRejected, ProviderUnavailable, RowsLocked
from embedding_worker.providers.embedder import Embedder, Vector
from embedding_worker.rows.store import FreshRow, PresentRow, RowStore
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash, fitted, is_blank
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


def outcome(kind: OutcomeKind, *, embed_ms: int | None = None) -> RowOutcome:
    return RowOutcome(kind, kind.value, MESSAGES[kind], embed_ms)


MESSAGES = {
    OutcomeKind.EMBEDDED: "the vector was written",
    OutcomeKind.ALREADY_FRESH: "the row already has the vector of its present text",
    OutcomeKind.BLANK_TEXT: "the text is empty: the vector is null, and no call was made",
    OutcomeKind.ROW_DELETED: "the row is gone",
    OutcomeKind.TEXT_CHANGED: "the text has changed since: the new one has a job of its own",
    OutcomeKind.INPUT_REJECTED: "the row's own text cannot be embedded",
}


def decided(request: RowRequest, row: PresentRow | None) -> RowOutcome | FreshRow | str:
    """What the row needs: nothing more (an outcome), a null vector (a row to write), or an embedding (its text)."""
    if row is None:
        return outcome(OutcomeKind.ROW_DELETED)
    if row.right:
        return outcome(OutcomeKind.ALREADY_FRESH)
    if content_hash(row.text) != request.content_hash:
        return outcome(OutcomeKind.TEXT_CHANGED)
    if is_blank(row.text):
        return FreshRow(row.id, request.content_hash, None)
    return row.text


class Freshener:
    """Makes rows of one source fresh, a batch at a time: the work of its batcher."""

    def __init__(self, store: RowStore, embedder: Embedder, *, too_long: TooLong) -> None:
        self._store = store
        self._writer = Writer(store)
        self._embedder = embedder
        self._too_long = too_long

    async def freshen(self, batch: Batch[RowRequest, RowOutcome]) -> None:
        """Settles every row of the batch. One call to the provider at most.

        A row that the database refuses to change gets RowsRefused, and keeps none of the others.
        """
        requests = batch.items
        rows = await patiently("read", self._store.read, [request.id for request in requests])
        to_write: dict[int, FreshRow] = {}
        texts: dict[int, str] = {}
        for place, request in enumerate(requests):
            match decided(request, rows.get(request.id)):
                case RowOutcome() as settled:
                    batch.settle(place, settled)
                case FreshRow() as cleared:
                    to_write[place] = cleared
                case str() as text:
                    try:
                        texts[place] = fitted(text, max_bytes=self._embedder.max_text_bytes, too_long=self._too_long)
                    except InputRejected as exc:
                        batch.settle(place, RowOutcome(OutcomeKind.INPUT_REJECTED, exc.reason, exc.message))
        started = time.monotonic()
        vectors: Sequence[Vector] = (
            await patiently("embed", self._embedder.embed, list(texts.values())) if texts else []
        )
        embed_ms = round((time.monotonic() - started) * 1000)
        for place, vector in zip(texts, vectors, strict=True):
            to_write[place] = FreshRow(requests[place].id, requests[place].content_hash, vector)
        await self._write(batch, to_write, embed_ms)

    async def _write(self, batch: Batch[RowRequest, RowOutcome], rest: dict[int, FreshRow], embed_ms: int) -> None:
        """Write until every row is written, or shown to be changed or gone. A locked row is tried again, without a call."""
        pause_s = FIRST_PAUSE_S
        while rest:
            written = await patiently("write", self._writer.write, list(rest.values()))
            for place, row in list(rest.items()):
                if row.id in written.refused:
                    del rest[place]
                    batch.refuse(place, written.refused[row.id])
                elif row.id in written.ids:
                    del rest[place]
                    embedded = row.vector is not None
                    kind = OutcomeKind.EMBEDDED if embedded else OutcomeKind.BLANK_TEXT
                    batch.settle(place, outcome(kind, embed_ms=embed_ms if embedded else None))
            if not rest:
                return
            batch.free_slot()  # what is left waits for its rows' locks, and holds nobody up
            present = await patiently("read", self._store.read, [row.id for row in rest.values()])
            for place, row in list(rest.items()):
                now = decided(RowRequest(row.id, row.content_hash), present.get(row.id))
                if isinstance(now, RowOutcome):
                    del rest[place]
                    batch.settle(place, now)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


async def patiently(what: str, ask: Callable[[Argument], Awaitable[Answer]], argument: Argument) -> Answer:
    """Ask until there is an answer, with growing pauses, while what stands in the way is nobody's fault."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await ask(argument)
        except (DatabaseUnavailable, RowsLocked, ProviderUnavailable) as exc:
            log.warning("waiting", what=what, error=type(exc).__name__, message=str(exc), pause_s=pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
