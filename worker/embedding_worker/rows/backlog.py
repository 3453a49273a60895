"""Change marks in pages: of rows that are due although no edit made them due, and of rows that turn out to be up to date.

The marks of the first are not `edited`, because the audit has made them. Called by the backfill, which embeds such rows in pages,
by the operator, which decides when it begins, and by clearing.py, which deletes the marks of the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from embedding_worker.errors import StatementTimedOut
from embedding_worker.rows.backfills import BackfillRecords
from embedding_worker.rows.database import Database
from embedding_worker.rows.index_advice import IndexFacts, read_index_facts
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table_access import TableAccess

UNEDITED = "d.edited IS NOT TRUE AND d.id IS NOT NULL"
"""The condition of such a mark, with the alias d. No constraint keeps out a mark without an id, which is no row's."""
COUNT_TIMEOUT_S = 20.0
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
    """Of the last mark that was looked at; None at the end of the marks."""


@dataclass(frozen=True)
class ClearedPage:
    last_seq: int | None
    """Of the last mark that was read; None at the end of the marks."""
    read: int
    deleted: int


class Backlog:
    """The change marks of one source, in pages."""

    def __init__(self, database: Database, access: TableAccess, statements: Statements) -> None:
        self.records = BackfillRecords(database)
        self._database = database
        self._at = statements.config.at
        self._access = access
        self._marks = statements.marks
        self._statements = statements

    async def reaches(self, rows: int) -> bool:
        """Whether there are so many such marks, at least among the oldest marks."""
        sql = f"""
SELECT count(*) >= $1::bigint FROM (SELECT FROM (SELECT m.id, m.edited FROM {self._marks} m ORDER BY m.seq LIMIT $2::bigint) d
    WHERE {UNEDITED} LIMIT $1::bigint) f"""
        return bool((await self._access.fetch_by_index(sql, rows, rows * LOOKED_THROUGH))[0][0])

    async def is_empty(self) -> bool:
        """Whether there is no such mark at all, wherever it is among the others.

        Reads them in their order: those at the beginning of the table are deleted first, and would be read again each time.
        """
        sql = f"SELECT (SELECT d.seq FROM {self._marks} d WHERE {UNEDITED} ORDER BY d.seq LIMIT 1) IS NULL"
        return bool((await self._access.fetch_by_index(sql))[0][0])

    async def count(self) -> int:
        """How many such marks there are: reads all of them. If that takes too long, PostgreSQL's estimate of all marks."""
        sql = f"SELECT count(*) FROM {self._marks} d WHERE {UNEDITED}"
        try:
            return int((await self._access.fetch(sql, timeout_s=COUNT_TIMEOUT_S))[0][0])
        except StatementTimedOut:
            estimate = "SELECT greatest(c.reltuples, 0)::bigint FROM pg_class c WHERE c.oid = $1::regclass"
            return int((await self._access.fetch(estimate, self._marks))[0][0])

    async def edited_rows(self) -> int:
        """How many rows have a mark of an edit."""
        sql = f"SELECT count(DISTINCT d.id) FROM {self._marks} d WHERE d.edited"
        return int((await self._access.fetch(sql))[0][0])

    @property
    def _next(self) -> str:
        """The marks that a page looks at: the oldest after $1, $2 for each of the $3 shares.

        The share is chosen from these: with its remainder as a condition of this scan, PostgreSQL would expect few marks to
        fulfil it, and read and sort all marks for each page.
        """
        return f"""
eo_next AS MATERIALIZED (SELECT d.seq, d.id, d.edited, d.ctid AS eo_place FROM {self._marks} d WHERE d.seq > $1::bigint
    ORDER BY d.seq LIMIT $2::bigint * $3::bigint),
eo_page AS MATERIALIZED (SELECT n.seq, n.id, n.edited, n.eo_place FROM eo_next n
    WHERE n.id IS NOT NULL AND n.seq % $3::bigint = $4::bigint)"""

    async def page(self, *, after_seq: int, limit: int, share: Share) -> MarkPage:
        """The rows of up to `limit` such marks of this share, the oldest after `after_seq` first. There may be none of a page."""
        has_edit = f"EXISTS (SELECT FROM {self._marks} e WHERE e.id = p.id AND e.edited)"
        return await self._rows_of_page(f"p.edited IS NOT TRUE AND NOT {has_edit}", after_seq, limit, share)

    async def marked_rows(self, *, after_seq: int, limit: int, share: Share) -> MarkPage:
        """The rows of up to `limit` marks of this share, whatever has made them, the oldest after `after_seq` first."""
        return await self._rows_of_page("true", after_seq, limit, share)

    async def _rows_of_page(self, condition: str, after_seq: int, limit: int, share: Share) -> MarkPage:
        sql = f"""
WITH {self._next}
SELECT (SELECT max(n.seq) FROM eo_next n), coalesce(array_agg(p.id ORDER BY p.seq), '{{}}') FROM eo_page p WHERE {condition}"""
        last_seq, ids = (await self._access.fetch_by_index(sql, after_seq, limit, share.of, share.index))[0]
        return MarkPage(list(dict.fromkeys(ids)), last_seq)

    async def index_facts(self) -> IndexFacts:
        """What the catalog says about indexes on the vectors."""
        return await read_index_facts(self._database, self._at)

    async def hand_over(self, ids: Sequence[str]) -> None:
        """Make the marks of these rows those of edits, so that each row gets a job. A row without such a mark is left alone."""
        sql = f"""
WITH taken AS (DELETE FROM {self._marks} d WHERE d.id = ANY($1::text[]) AND d.edited IS NOT TRUE RETURNING d.id, d.since)
INSERT INTO {self._marks} (id, since, edited) SELECT t.id, min(t.since), true FROM taken t GROUP BY t.id"""
        await self._access.fetch(sql, await self._access.as_text(ids))

    async def clear_page(self, *, after_seq: int, limit: int, share: Share) -> ClearedPage:
        """Delete the marks of rows that are up to date, or gone, among up to `limit` marks of this share after `after_seq`.

        A mark that was appended meanwhile stays, as that of a row that was edited meanwhile. Raises RowsRefused where a text, or
        an id that no row can have, makes the statement fail, StatementTimedOut and RowsLocked: then nothing is deleted.
        """
        s = self._statements
        sql = f"""
WITH {self._next},
eo_right AS MATERIALIZED ({s.right_marks("eo_page", "$5::text")}),
deleted AS (DELETE FROM {self._marks} d WHERE d.ctid = ANY(ARRAY(SELECT r.eo_place FROM eo_right r)) RETURNING 1)
SELECT (SELECT max(n.seq) FROM eo_next n), (SELECT count(*) FROM eo_page), (SELECT count(*) FROM deleted)"""
        fingerprint = s.config.fingerprint
        rows = await self._access.read_texts(sql, after_seq, limit, share.of, share.index, fingerprint)
        return ClearedPage(*rows[0])
