"""What the book-keeping knows of one row: its marks, whether it is up to date, and how many due rows come before it.

Called by the operator when a person asks about a row. It reads by indexes only, never returns a text, and writes nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from embedding_worker.errors import RowsRefused, StatementTimedOut
from embedding_worker.rows import last_outcomes
from embedding_worker.rows.database import Row
from embedding_worker.rows.records import LastOutcome
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.store import RowStore
from embedding_worker.rows.table_access import TableAccess

TIMEOUT_S = 5.0
"""A person waits for the answer."""
COUNTED = 100_000
"""No more marks are counted on either side of a row's own, which takes about 0.3 s beside a million marks."""


Outcomes = tuple[LastOutcome, ...]
"""What became of the last attempts of a row, newest first."""


@dataclass(frozen=True)
class RowMarks:
    """The change marks of one row."""

    since: datetime
    edited: bool
    """An application has made one of them; otherwise the audit has found the row."""
    first: int
    newest_edit: int
    """The oldest of them, and the newest that an edit has made (0: none)."""


@dataclass(frozen=True)
class RowFacts:
    """One row as the database has it."""

    exists: bool = False
    up_to_date: bool = False
    blank: bool = False
    text_problem: str = ""
    """Why its text cannot be read, in a sentence."""
    marks: RowMarks | None = None
    embedded_at: datetime | None = None
    """When its last vector was written, or when it was seen to have no text."""
    fingerprint: str = ""
    """Of the model that made its last vector."""


@dataclass(frozen=True)
class RowsAround:
    """How many other rows have older marks, and how many have newer edits."""

    older: int
    newer: int
    more_older: bool = False
    """There are more, which are not counted."""
    more_newer: bool = False


class OneRow:
    """Questions about single rows of one table."""

    def __init__(self, access: TableAccess, statements: Statements) -> None:
        self._access = access
        self._statements = statements

    @classmethod
    def of(cls, store: RowStore) -> Self:
        return cls(*store.parts)

    async def facts(self, row_id: str) -> RowFacts:
        """Raises DatabaseUnavailable, RowsLocked, or SourceRefused where the reason is the table."""
        if not await self._access.possible([row_id]):
            return RowFacts()
        facts = await self._present(row_id)
        marks, state = await self._fetch(self._marks, row_id), await self._fetch(self._state, row_id)
        embedded_at, fingerprint = state[0] if state else (None, "")
        return RowFacts(
            facts.exists,
            facts.up_to_date,
            facts.blank,
            facts.text_problem,
            RowMarks(*marks[0]) if marks[0][0] is not None else None,
            embedded_at,
            fingerprint,
        )

    async def _present(self, row_id: str) -> RowFacts:
        fingerprint = self._statements.config.fingerprint
        try:
            found = await self._fetch(self._statements.look, [row_id], fingerprint)
        except StatementTimedOut:
            return RowFacts(exists=True, text_problem=f"its text was not computed within {TIMEOUT_S:.0f} s")
        except RowsRefused as exc:
            if exc.is_of_the_table:
                raise
            return RowFacts(exists=True, text_problem=exc.message)
        return RowFacts(exists=True, up_to_date=found[0][3], blank=found[0][2]) if found else RowFacts()

    async def rows_around(self, marks: RowMarks, *, leave_out: Iterable[str], edits_only: bool) -> RowsAround:
        """The due rows beside the one with these marks, without those in `leave_out`; with `edits_only`, edited ones only."""
        left_out = await self._access.as_text(leave_out)
        newest = marks.newest_edit or marks.first
        first = newest if edits_only else marks.first
        return RowsAround(*(await self._fetch(self._count(edits_only=edits_only), left_out, first, newest, COUNTED))[0])

    async def last_outcomes(self, row_id: str) -> Outcomes:
        """What became of the row's last attempts, newest first, also after its jobs are gone."""
        return await last_outcomes.of_row(self._access, self._statements.config.at.bookkeeping_name, row_id)

    async def _fetch(self, sql: str, *params: object) -> list[Row]:
        return await self._access.fetch(sql, *params, timeout_s=TIMEOUT_S, by_index=True)

    @property
    def _marks(self) -> str:
        """$1 id → since when, whether edited, the oldest mark, the newest edit: one lookup by the index of ids."""
        return f"""
SELECT min(d.since), coalesce(bool_or(d.edited), false), coalesce(min(d.seq), 0), coalesce(max(d.seq) FILTER (WHERE d.edited), 0)
FROM {self._statements.marks} d WHERE d.id = $1::text"""

    @property
    def _state(self) -> str:
        """$1 id → when its vector was written, and by which model: one lookup by the primary key."""
        row_id = self._statements.state_id(f"$1::text::{self._statements.layout.id_type}")
        return f"SELECT s.embedded_at, s.fingerprint FROM {self._statements.state} s WHERE s.id = {row_id}"

    def _count(self, *, edits_only: bool) -> str:
        """$1 ids left out, $2 a mark, $3 a mark, $4 at most so many marks → rows with a mark before $2, rows with an edit after
        $3, whether there may be more of the first, and of the second.

        Two scans by the index of the marks, as those of a sweep.
        """
        marks, of_edits = self._statements.marks, "d.edited" if edits_only else "true"
        return f"""
WITH eo_left AS MATERIALIZED (SELECT l.id FROM unnest($1::text[]) l(id)),
eo_older AS MATERIALIZED (SELECT d.id FROM {marks} d WHERE d.seq < $2::bigint AND {of_edits} AND d.id IS NOT NULL
    ORDER BY d.seq LIMIT $4::bigint),
eo_newer AS MATERIALIZED (SELECT d.id FROM {marks} d WHERE d.edited AND d.seq > $3::bigint AND d.id IS NOT NULL
    ORDER BY d.seq DESC LIMIT $4::bigint)
SELECT (SELECT count(DISTINCT o.id) FROM eo_older o LEFT JOIN eo_left l ON l.id = o.id WHERE l.id IS NULL),
    (SELECT count(DISTINCT n.id) FROM eo_newer n LEFT JOIN eo_left l ON l.id = n.id WHERE l.id IS NULL),
    (SELECT count(*) >= $4::bigint FROM eo_older), (SELECT count(*) >= $4::bigint FROM eo_newer)"""


MakeOneRow = Callable[[RowStore], OneRow]
