"""The audit of one source: reads the whole table by id, again and again, and marks what no trigger saw.

The first pass, in which every row is to be marked, runs as fast as it can; later passes run at a set rate. Called by the
source's loop.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from embedding_worker.clock import Clock
from embedding_worker.rows.records import AuditPage
from embedding_worker.rows.store import RowStore
from embedding_worker.writer import next_size

log = structlog.get_logger(__name__)

FIRST_PASS_PAGE = 2_000
FIRST_PASS_AIM_S = 0.2
"""How long one page of the first pass may take: larger pages cost less for each row."""
FIRST_STEP_S = 0.4
"""How long one step of the first pass may take: the sweep is to start with what is already marked."""
LATER_STEP_S = 0.25
WHOLE_STEP_S = 3.0
"""How long one step of a pass on request may take, and the first step of the first pass: meanwhile nothing is swept, and the
owner is not confirmed."""
MAX_ROWS_A_STEP = 10_000
PAGE_AIM_S = 0.1
"""How long one page of a later pass may take: a text may be expensive, and edits wait meanwhile."""
SMALLEST_PAGE, FIRST_LATER_PAGE = 50, 500
STEP_EVERY_S = 0.4
"""Turns that edits cause follow each other more often: they need not wait for an audit of a few rows each."""


@dataclass
class PageSize:
    """How many rows a page of one kind of pass has, which is adapted to the time that it takes."""

    rows: int
    aim_s: float

    def record(self, rows: int, *, took_s: float) -> None:
        """A page of `rows` rows took so long. A smaller one says nothing about a larger one, unless it is slow."""
        if rows == self.rows or took_s > self.aim_s:
            self.rows = next_size(rows, took_s=took_s, aim_s=self.aim_s, least=SMALLEST_PAGE, most=MAX_ROWS_A_STEP)


class Audit:
    def __init__(
        self, store: RowStore, *, rows_per_s: float, filled: bool, clock: Clock, first_step_rows: int = 0
    ) -> None:
        """`first_step_rows`: the first step of the first pass goes on until it has read so many rows. If all of them are due, it
        is known that a backfill is to embed them before any of them gets a job.
        """
        self._store = store
        self._first_step_rows = first_step_rows
        self._rows_per_s = rows_per_s
        self._clock = clock
        self._after: str | None = None
        self._whole: tuple[str | None, str | None] | None = None
        """Of a pass on request: the request's token, and the id after which to go on."""
        self._last_step = clock.monotonic()
        self._first_page = PageSize(FIRST_PASS_PAGE, FIRST_PASS_AIM_S)
        self._later_page = PageSize(FIRST_LATER_PAGE, PAGE_AIM_S)
        self.filled = filled
        """The first pass in the configuration in force is complete."""
        self.rows = 0
        """Rows that the present pass has read."""
        self.completed_at: datetime | None = None
        """When a pass has last come to the end of the table."""
        self.adopted: int | None = None
        """How many rows the first pass has adopted; None before its end, and if it was not to adopt any."""

    @property
    def longest_pause_s(self) -> float:
        """With a longer pause between two steps, a later pass would fall behind its rate."""
        return MAX_ROWS_A_STEP / self._rows_per_s

    async def step(self) -> bool:
        """Read as many rows as the rate allows by now. Returns whether any row was marked or may have been.

        Raises what the store raises; the position is kept.
        """
        now = self._clock.monotonic()
        if self.filled:
            rows = int((now - self._last_step) * self._rows_per_s)
            if rows < 1 or now - self._last_step < STEP_EVERY_S:
                return False
            return await self._read_later(min(rows, MAX_ROWS_A_STEP), now)
        first_rows = self._first_step_rows if self.rows == 0 else 0
        while not self.filled and self._reads_on(self._clock.monotonic() - now, first_rows):
            await self._read_timed(self._first_page.rows, self._first_page)
        self._last_step = self._clock.monotonic()
        return True

    async def _read_later(self, rows: int, now: float) -> bool:
        """Read so many rows of a later pass, as far as a step may take; the next step makes up for the others."""
        self._last_step, read, marked = now, 0, 0
        while read < rows and self._clock.monotonic() - now < LATER_STEP_S:
            page = min(self._later_page.rows, rows - read)
            marked += await self._read_timed(page, self._later_page)
            read += page
        self._last_step = now - (rows - read) / self._rows_per_s
        return marked > 0

    def _reads_on(self, for_s: float, first_rows: int) -> bool:
        """Whether a step of the first pass reads another page after so many seconds."""
        return for_s < FIRST_STEP_S or (self.rows < first_rows and for_s < WHOLE_STEP_S)

    async def read_whole_table(self, requested: str | None) -> bool:
        """Read from the first row to the last as fast as possible, for a few seconds at a time: a person has requested it.

        Returns whether the last row was reached; if not, the next call with the same token goes on. It has its own position,
        so the steps between two calls change nothing of it. Raises what the store raises; the position is kept.
        """
        if self._whole is None or self._whole[0] != requested:
            self._whole = (requested, None)
        began = self._clock.monotonic()
        while self._clock.monotonic() - began < WHOLE_STEP_S:
            page = await self._audit(self._whole[1], FIRST_PASS_PAGE)
            if page.last_id is None:
                self._whole, self._after = None, None
                self._last_step = self._clock.monotonic()
                return True
            self._whole = (requested, page.last_id)
        return False

    async def _read_timed(self, rows: int, size: PageSize) -> int:
        """Read a page, and decide how large the next one is."""
        began = self._clock.monotonic()
        marked = await self._read_page(rows)
        size.record(rows, took_s=self._clock.monotonic() - began)
        return marked

    async def _read_page(self, rows: int) -> int:
        page = await self._audit(self._after, rows)
        self._after = page.last_id
        self.rows = self.rows + rows if page.last_id is not None else 0
        return page.marked

    async def _audit(self, after_id: str | None, rows: int) -> AuditPage:
        page = await self._store.audit(after_id=after_id, limit=rows)
        if page.marked and self.filled:
            log.info("audit found rows that no trigger saw", rows=page.marked)
        if page.last_id is None:
            self.completed_at = self._clock.now()
        if page.last_id is None and not self.filled:
            self.adopted = await self._store.record_filled()
            self.filled = True
            if self.adopted is not None:
                log.info("existing vectors adopted", rows=self.adopted)
        return page
