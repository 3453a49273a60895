"""Deletes the change marks of rows that are up to date in pages, where there are many: an edit of another field has marked them.

Called by the source's loop after each sweep. Without it, each such row would take a place in a sweep.
"""

import asyncio

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import RowsLocked, RowsRefused, StatementTimedOut
from embedding_worker.rows.backlog import ClearedPage, Share
from embedding_worker.rows.records import Seen
from embedding_worker.rows.store import RowStore

log = structlog.get_logger(__name__)

MARKS_OF_A_PAGE = 5_000
SMALLEST_PAGE = 50
CONNECTIONS = 2
STEP_S = 1.0
"""How long a step may take: then the sweep looks for edits again. Between two steps, nothing is deleted for some 0.1 s."""
PAUSE_S = 5.0
"""Between two passes: one that finds little to delete is not repeated at once."""
ENOUGH_ROWS = 20
BEGINS_ABOVE = 0.5
GOES_ON_ABOVE = 0.1


def begins(seen: Seen) -> bool:
    """Whether so many rows of a sweep were up to date that the marks are worth reading in pages."""
    return seen.rows >= ENOUGH_ROWS and seen.up_to_date > BEGINS_ABOVE * seen.rows


def goes_on(seen: Seen) -> bool:
    """Whether a page has deleted so many marks that the next one is worth reading."""
    return seen.up_to_date > GOES_ON_ABOVE * seen.rows


class Clearing:
    """A pass over the marks of one source, from the oldest to the newest, in as many steps as it takes."""

    def __init__(self, store: RowStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._positions: dict[Share, int] = {}
        """Where each part of the pass goes on; empty while there is none."""
        self._page = MARKS_OF_A_PAGE
        self._deleted = 0
        self._not_before = clock.monotonic()

    async def step(self, swept: Seen) -> bool:
        """Go on for a second, or begin if the sweep has seen many rows that are up to date. Returns whether more is left.

        Raises what the store raises, except where a page cannot be cleared: the sweep then works on its rows one by one.
        """
        if not self._positions and begins(swept) and self._clock.monotonic() >= self._not_before:
            self._positions = {Share(index, CONNECTIONS): 0 for index in range(CONNECTIONS)}
        began, until = bool(self._positions), self._clock.monotonic() + STEP_S
        await asyncio.gather(*(self._clear(share, until) for share in list(self._positions)))
        if began and not self._positions:
            self._not_before = self._clock.monotonic() + PAUSE_S
        if self._deleted and not self._positions:
            log.info("change marks of rows that are up to date deleted", marks=self._deleted)
            self._deleted = 0
        return bool(self._positions)

    async def _clear(self, share: Share, until: float) -> None:
        while share in self._positions and self._clock.monotonic() < until:
            page = await self._clear_page(share)
            if page is None or page.last_seq is None or not goes_on(Seen(page.read, page.deleted)):
                self._positions.pop(share)
                return
            self._positions[share] = page.last_seq
            self._deleted += page.deleted

    async def _clear_page(self, share: Share) -> ClearedPage | None:
        """None where the page cannot be cleared."""
        backlog, after = self._store.backlog, self._positions[share]
        try:
            return await backlog.clear_page(after_seq=after, limit=self._page, share=share)
        except StatementTimedOut:
            self._page = max(SMALLEST_PAGE, self._page // 4)
        except RowsRefused:  # a text fails, or no row can have an id: such rows are separated from the others
            marked = await backlog.marked_rows(after_seq=after, limit=self._page, share=share)
            await self._store.clear(marked.ids)
            return ClearedPage(marked.last_seq, len(marked.ids), len(marked.ids))
        except RowsLocked:
            log.debug("page of change marks not cleared, because another session has locked some of them")
        return None
