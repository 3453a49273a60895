"""The audit of one source: through the whole table by id, for ever, for what no trigger saw.

As fast as it can the first time, when every row is still to be marked; at a set pace afterwards. Called by the source's loop.
"""

import time

import structlog

from embedding_worker.rows.store import RowStore

log = structlog.get_logger(__name__)

FIRST_PAGE = 2_000
STEP_S = 0.25
"""How long the first pass may keep the sweep waiting, which is to begin with what it has marked already."""
MOST_ROWS_A_STEP = 10_000


class Audit:
    def __init__(self, store: RowStore, *, rows_per_s: float, filled: bool) -> None:
        self._store = store
        self._rows_per_s = rows_per_s
        self._after: str | None = None
        self._last_step = time.monotonic()
        self.filled = filled
        """It has been through the whole table once, in the configuration in force."""

    async def step(self) -> bool:
        """Look at as many rows as are due to be looked at by now. Returns whether that has changed what is due or known.

        Raises what the store raises; the position is kept.
        """
        now = time.monotonic()
        if self.filled:
            rows = int((now - self._last_step) * self._rows_per_s)
            if rows < 1:
                return False
            self._last_step = now
            return await self._page(min(rows, MOST_ROWS_A_STEP)) > 0
        while not self.filled and time.monotonic() - now < STEP_S:
            await self._page(FIRST_PAGE)
        self._last_step = time.monotonic()
        return True

    async def whole_table(self) -> None:
        """From the first row to the last, as fast as it goes: somebody has asked for it."""
        self._after = None
        while True:
            await self._page(FIRST_PAGE)
            if self._after is None:
                break
        self._last_step = time.monotonic()

    async def _page(self, rows: int) -> int:
        page = await self._store.audit(after_id=self._after, limit=rows)
        self._after = page.last_id
        if page.marked and self.filled:
            log.info("audit found rows that no trigger saw", rows=page.marked)
        if page.last_id is None and not self.filled:
            await self._store.record_filled()
            self.filled = True
        return page.marked
