"""Reads the rows of a backfill in pages, one page ahead of the calls, so that these never wait for it. Called by backfill.py."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from embedding_worker.clock import Clock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.patience import until_answered
from embedding_worker.rows.backlog import Share
from embedding_worker.rows.records import PresentRow
from embedding_worker.rows.store import RowStore

MARKS_OF_A_PAGE = 1_000
"""At most."""
TEXTS_LAST_S = 5.0
"""While the provider may not be called, texts change: after so long, rows are read again."""


@dataclass(frozen=True)
class Page:
    last_seq: int | None = 0
    """Of the last mark that was looked at; None at the end of the marks."""
    ids: list[str] = field(default_factory=list)
    rows: Mapping[str, PresentRow] = field(default_factory=dict)
    any_locked: bool = False
    """Rows that another session has locked were left out."""
    any_repeated: bool = False
    """Rows that are being worked on, because of another mark of theirs, were left out."""
    read_at: float = 0.0
    """By the monotonic clock."""

    def present_rows(self, now: float) -> Mapping[str, PresentRow] | None:
        """The rows as they were read; None if that was too long ago."""
        return self.rows if now - self.read_at < TEXTS_LAST_S else None


class PagesAhead:
    """The pages of one pass over the marks of a share, from the oldest marks to the newest."""

    def __init__(
        self,
        store: RowStore,
        rows: RowEmbedder,
        share: Share,
        *,
        limit: int,
        without_locked: bool,
        in_work: set[str],
        clock: Clock,
    ) -> None:
        """`without_locked`: leave out rows that another session has locked, because they would be paid for again. `in_work`: the
        rows without an outcome; those of each page are added.
        """
        self._store = store
        self._rows = rows
        self._share = share
        self._limit = min(limit, MARKS_OF_A_PAGE)
        self._without_locked = without_locked
        self._clock = clock
        self._next: asyncio.Task[Page] | None = None
        self._in_work = in_work

    async def __aenter__(self) -> Self:
        self._begin_next(Page())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)

    async def next(self, *, unless: asyncio.Event) -> Page | None:
        """The next page, which may have no rows; None at the end. Raises SourceRefused.

        Waits while the database is away; returns None if the event is set first.
        """
        if self._next is None:
            return None
        stopping = asyncio.create_task(unless.wait())
        try:
            await asyncio.wait({self._next, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if unless.is_set():
            return None
        page = self._next.result()
        self._begin_next(page)
        return page

    def _begin_next(self, page: Page) -> None:
        self._next = asyncio.create_task(self._read(page.last_seq)) if page.last_seq is not None else None

    async def _read(self, after_seq: int) -> Page:
        reading = partial(self._store.backlog.page, after_seq=after_seq, limit=self._limit, share=self._share)
        marks = await until_answered("read change marks", reading, clock=self._clock)
        others = [row_id for row_id in marks.ids if row_id not in self._in_work]
        ids = await self._that_are_not_locked(others)
        self._in_work.update(ids)
        rows = await self._rows.read(ids) if ids else {}
        return Page(
            marks.last_seq,
            ids,
            rows,
            any_locked=len(ids) < len(others),
            any_repeated=len(others) < len(marks.ids),
            read_at=self._clock.monotonic(),
        )

    async def _that_are_not_locked(self, ids: list[str]) -> list[str]:
        if not self._without_locked or not ids:
            return ids
        finding = partial(self._store.find_locked, ids)
        locked = await until_answered("look for locked rows", finding, clock=self._clock)
        return [row_id for row_id in ids if row_id not in locked]
