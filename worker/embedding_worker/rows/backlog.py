"""The rows of a source that are due although no edit made them due: after a first fill, or where a load has passed the triggers.

Their change marks are not `edited`, because the audit has made them. Called by the backfill, which embeds such rows in pages, and
by the operator, which decides when it begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from embedding_worker.rows.backfills import BackfillRecords
from embedding_worker.rows.database import Database
from embedding_worker.rows.index_advice import IndexFacts, read_index_facts
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table_access import TableAccess

LOOKED_THROUGH = 10
"""So many times the number that is counted: marks of edits between the others do not make the count more expensive than that."""


@dataclass(frozen=True)
class Share:
    """The part of the marks that one of several processes works on: those whose number has this remainder."""

    index: int = 0
    of: int = 1


@dataclass(frozen=True)
class MarkPage:
    ids: list[str]
    """In the order of their marks. A row that has a mark of an edit too is left out, because it gets a job."""
    last_seq: int | None
    """Of the last mark that was read; None at the end of the marks."""


class Backlog:
    """The change marks that no edit has made, of one source."""

    def __init__(self, database: Database, access: TableAccess, statements: Statements) -> None:
        self.records = BackfillRecords(database)
        self._database = database
        self._at = statements.config.at
        self._access = access
        self._marks = statements.marks

    async def reaches(self, rows: int) -> bool:
        """Whether there are so many such marks, at least among the oldest marks."""
        sql = f"""
SELECT count(*) >= $1::bigint FROM (SELECT FROM (SELECT d.edited FROM {self._marks} d ORDER BY d.seq LIMIT $2::bigint) m
    WHERE m.edited IS NOT TRUE LIMIT $1::bigint) f"""
        return bool((await self._access.fetch(sql, rows, rows * LOOKED_THROUGH))[0][0])

    async def count(self) -> int:
        """How many such marks there are: reads all of them."""
        sql = f"SELECT count(*) FROM {self._marks} d WHERE d.edited IS NOT TRUE AND d.id IS NOT NULL"
        return int((await self._access.fetch(sql))[0][0])

    async def edited_rows(self) -> int:
        """How many rows have a mark of an edit."""
        sql = f"SELECT count(DISTINCT d.id) FROM {self._marks} d WHERE d.edited"
        return int((await self._access.fetch(sql))[0][0])

    async def page(self, *, after_seq: int, limit: int, share: Share) -> MarkPage:
        """The rows of up to `limit` such marks of this share, the oldest after `after_seq` first."""
        sql = f"""
WITH page AS MATERIALIZED (SELECT d.seq, d.id FROM {self._marks} d WHERE d.edited IS NOT TRUE AND d.id IS NOT NULL
    AND d.seq > $1::bigint AND d.seq % $3::bigint = $4::bigint ORDER BY d.seq LIMIT $2::bigint)
SELECT p.seq, p.id, EXISTS (SELECT FROM {self._marks} e WHERE e.id = p.id AND e.edited) FROM page p ORDER BY p.seq"""
        rows = await self._access.fetch(sql, after_seq, limit, share.of, share.index)
        ids = list(dict.fromkeys(row_id for _, row_id, edited in rows if not edited))
        return MarkPage(ids, rows[-1][0] if rows else None)

    async def index_facts(self) -> IndexFacts:
        """What the catalog says about indexes on the vectors."""
        return await read_index_facts(self._database, self._at)

    async def hand_over(self, ids: Sequence[str]) -> None:
        """Make the marks of these rows those of edits, so that each row gets a job. A row without such a mark is left alone."""
        sql = f"""
WITH taken AS (DELETE FROM {self._marks} d WHERE d.id = ANY($1::text[]) AND d.edited IS NOT TRUE RETURNING d.id, d.since)
INSERT INTO {self._marks} (id, since, edited) SELECT t.id, min(t.since), true FROM taken t GROUP BY t.id"""
        await self._access.fetch(sql, await self._access.as_text(ids))
