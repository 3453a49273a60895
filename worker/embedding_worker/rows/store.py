"""RowStore: reads and writes a source's rows, change marks and book-keeping. Each method uses short transactions.

Called by the reconciler (sweep, clear, audit, counts) and by the pipeline (read, write, counting of texts). Ids are text. An id
that the type of the id column can't represent is treated as the id of no row, so that no statement fails because of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from embedding_worker.rows import last_outcomes, usage
from embedding_worker.rows.backlog import Backlog
from embedding_worker.rows.database import Database, Row
from embedding_worker.rows.each_row import EachRow, Fetch, of_each_row, succeeds_for_any
from embedding_worker.rows.inspection import inspect_table, would_adopt
from embedding_worker.rows.pages import Pages
from embedding_worker.rows.records import (
    AuditPage,
    Counts,
    DueRow,
    LastOutcome,
    NewerMark,
    PresentRow,
    PreviewPage,
    RateGrant,
    RateLimits,
    UsageNote,
    Used,
    VectorWrite,
    WriteResult,
)
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table_access import TableAccess, plain_array
from embedding_worker.rows.vectors import VectorEncoder
from embedding_worker.source import SourceConfig

PREVIEW_PAGE = 5_000
SAMPLED_PAGES = 100


class RowStore:
    """The rows of one source, in the configuration in force."""

    def __init__(self, database: Database, statements: Statements, *, adopts: bool = False) -> None:
        self._database = database
        self._access = TableAccess(database, statements)
        self._statements = statements
        self._fingerprint = statements.config.fingerprint
        self._vectors = VectorEncoder(self._access, statements.layout.vector_type)
        self._stem = statements.config.at.bookkeeping_name
        self.backlog = Backlog(database, self._access, statements)
        """The rows that are due although no edit made them due."""
        self._pages = Pages(self._access.read_texts, self._each_row, statements, self._fingerprint, adopts=adopts)

    @classmethod
    async def inspect(cls, database: Database, config: SourceConfig) -> "RowStore":
        """The store of a configuration that is only inspected: nothing is created. Raises as `prepare` does."""
        statements, _ = await inspect_table(database, config)
        return cls(database, statements, adopts=await would_adopt(database, config))

    @property
    def parts(self) -> tuple[TableAccess, Statements]:
        """What it reads the table with, for one_row.py."""
        return self._access, self._statements

    @property
    def marks_table(self) -> str:
        """The table of its change marks, with schema and quoted, for peek.py."""
        return self._statements.marks

    def id_problem(self, row_id: str) -> str | None:
        """Why no row of the table can have this id, in a few words; None if a row can have it."""
        return self._access.id_problem(row_id)

    async def _each_row(self, ids: Sequence[str], fetch: Fetch) -> EachRow:
        async def succeeds_for_others(ids: Sequence[str]) -> bool:
            return await succeeds_for_any(await self.rows_to_compare(except_ids=ids), fetch)

        return await of_each_row(
            ids, fetch, succeeds_for_others=succeeds_for_others, find_failing=self._access.find_failing
        )

    async def sweep(self, *, leave_out: Iterable[str], limit: int, edits_only: bool = False) -> list[DueRow]:
        """Up to `limit` due rows except those in `leave_out`: up to half are the newest edits, the others the oldest marks.

        With `edits_only`, rows that no edit has made due are left out too.
        """
        if limit < 1:
            return []
        pick = self._statements.pick_edits if edits_only else self._statements.pick
        picked = await self._access.fetch_by_index(pick, await self._access.as_text(leave_out), (limit + 1) // 2, limit)
        picked = picked[:limit]
        found = await self._look([row[0] for row in picked])
        due = []
        for row_id, mark, edited, age_s in picked:
            if row_id in found.rows:
                _, content_hash, blank, up_to_date = found.rows[row_id]
                due.append(
                    DueRow(row_id, mark, edited, content_hash, blank=blank, up_to_date=up_to_date, marked_s_ago=age_s)
                )
            else:
                fails = row_id in found.failures
                due.append(DueRow(row_id, mark, edited, None, gone=not fails, text_fails=fails))
        return due

    async def _look(self, ids: Sequence[str]) -> EachRow:
        async def look(part: Sequence[str]) -> list[Row]:
            return await self._access.read_texts(self._statements.look, part, self._fingerprint)

        return await self._each_row(await self._access.possible(ids), look)

    async def newer_marks(self, known: Mapping[str, int]) -> list[NewerMark]:
        """Those of these rows (id → newest mark known) that have a newer mark, with the hash of their present text."""
        ids = await self._access.as_text(known)
        if not ids:
            return []
        newest_known = [known[row_id] for row_id in ids]
        newest: dict[str, int] = dict(await self._access.fetch(self._statements.newest_marks, ids, newest_known))
        found = await self._look(list(newest))
        return [
            NewerMark(row_id, mark, found.rows[row_id][1])
            if row_id in found.rows
            else NewerMark(row_id, mark, gone=row_id not in found.failures)
            for row_id, mark in newest.items()
        ]

    async def read(self, ids: Sequence[str], *, characters: int) -> dict[str, PresentRow]:
        """The rows as they are now, by id, with the first `characters` of their texts; a row that is gone is left out."""

        async def read(part: Sequence[str]) -> list[Row]:
            ids = self._access.array(list(part))
            return await self._access.read_texts(self._statements.read, ids, self._fingerprint, characters)

        found = await self._each_row(await self._access.possible(ids), read)
        failing = {row_id: PresentRow(row_id, None, failure=error) for row_id, error in found.failures.items()}
        return failing | {row_id: PresentRow(*row) for row_id, row in found.rows.items()}

    async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
        """Write the vectors and the book-keeping of rows whose text still has the given hash, and delete their marks.

        Without rows, only the rights are checked. Raises RowsRefused if the database refuses one of the rows, or all.
        """
        possible = set(await self._access.possible([row.id for row in rows]))
        rows = [row for row in rows if row.id in possible]
        vectors = await self._vectors.encode([row.vector for row in rows])
        ids = self._access.array([row.id for row in rows])
        hashes = plain_array(row.content_hash for row in rows)
        found = await self._access.fetch_by_index(self._statements.write, ids, hashes, vectors, self._fingerprint)
        written = {row_id for row_id, done, _ in found if done}
        took_s = found[-1][2] if found else None
        return WriteResult(written, {row_id for row_id, done, _ in found if not done}, took_s)

    async def try_write(self, ids: Sequence[str], vector: Sequence[float] | None = None) -> WriteResult:
        """Write this vector to rows (None: the one that each has), and roll back. A row in neither set is locked, or gone.

        Raises RowsRefused if the database refuses one of them.
        """
        literal = None if vector is None else self._vectors.literal(vector)
        async with self._access.transaction() as transaction:
            tried = await transaction.fetch(self._statements.try_write, await self._access.possible(ids), literal)
            await transaction.undo()
        accepted = {row_id for row_id, done in tried if done}
        return WriteResult(accepted, {row_id for row_id, done in tried if not done})

    async def find_locked(self, ids: Sequence[str]) -> set[str]:
        """Those of these rows that another session has locked. Raises RowsLocked."""
        async with self._access.transaction() as transaction:
            locked = await transaction.fetch(self._statements.locked_rows, await self._access.possible(ids))
            await transaction.undo()
        return {row[0] for row in locked}

    async def rows_to_compare(self, *, except_ids: Sequence[str]) -> list[str]:
        """Up to 20 other rows: such that were written before, those with the newest marks, and some of any others."""
        (pages,) = (await self._access.fetch(self._statements.pages))[0]
        percentage = min(100.0, 100.0 * SAMPLED_PAGES / max(pages, 1))
        found = await self._access.fetch(
            self._statements.rows_to_compare, await self._access.possible(except_ids), percentage
        )
        return list(dict.fromkeys(row[0] for row in found))

    async def clear(self, ids: Sequence[str]) -> None:
        """Delete the marks of rows that are up to date, or gone, and of ids that no row can have."""
        possible = await self._access.possible(ids)

        async def clear(part: Sequence[str]) -> list[Row]:
            return await self._access.read_texts(self._statements.clear, part, self._fingerprint)

        await self._each_row(possible, clear)  # a row whose text has begun to fail meanwhile keeps its marks
        if impossible := await self._access.as_text(set(ids) - set(possible)):
            await self._access.refuse_changed_table()
            await self._access.fetch(self._statements.clear_impossible, impossible)

    async def audit(self, *, after_id: str | None, limit: int) -> AuditPage:
        """Audit one page of the table by id. See Pages.audit."""
        return await self._pages.audit(after_id=after_id, limit=limit)

    async def preview_due(self, *, after_id: str | None, limit: int) -> PreviewPage:
        """The rows of one page by id that are not up to date. Creates nothing, and works without the book-keeping."""
        return await self._pages.preview(after_id=after_id, limit=limit)

    async def would_embed(self, progress: Callable[[], None] = lambda: None) -> tuple[int, int]:
        """How many rows would be embedded in this configuration, and the bytes of their texts: reads the whole table.

        Calls `progress` after each page.
        """
        rows, size, after = 0, 0, None
        while True:
            page = await self.preview_due(after_id=after, limit=PREVIEW_PAGE)
            progress()
            embedded = [row for row in page.due if row.content_hash is not None and not row.blank]
            rows, size = rows + len(embedded), size + sum(row.text_bytes for row in embedded)
            if (after := page.last_id) is None:
                return rows, size

    async def counts(self, *, dead_letters: Iterable[str] = ()) -> Counts:
        return Counts(*(await self._access.fetch(self._statements.counts, await self._access.as_text(dead_letters)))[0])

    async def counts_and_use(self, *, dead_letters: Iterable[str] = ()) -> tuple[Counts, Used | None]:
        """`counts` and `used_today`, in one transaction."""
        ids = await self._access.as_text(dead_letters)
        async with self._access.transaction() as transaction:
            counts = Counts(*(await transaction.fetch(self._statements.counts, ids))[0])
            return counts, await usage.read_used_today(transaction, self._stem)

    async def acquire_texts(self, tokens: Sequence[int], limits: usage.Limits) -> usage.Granted:
        """Count texts as sent to the provider today, as many as the limits allow. See usage.acquire_texts."""
        return await usage.acquire_texts(self._access, self._stem, tokens, limits)

    async def return_texts(self, texts: int, *, tokens: int, counted_s_ago: float) -> None:
        """Give back texts that were counted so long ago and have not reached the provider, if that was today."""
        await usage.return_texts(self._access, self._stem, texts, tokens=tokens, counted_s_ago=counted_s_ago)

    async def acquire_rate(
        self, key: str, limits: RateLimits, *, texts: int, tokens: int, longest_wait_s: float
    ) -> RateGrant:
        """Reserve a call in the limits that all processes keep together (see rate_limits.acquire).

        `key` is that of the endpoint and the credential (see Provider.credential_key).
        """
        return await usage.acquire_rate(
            self._database, key, limits, texts=texts, tokens=tokens, longest_wait_s=longest_wait_s
        )

    async def record_usage(self, notes: Sequence[UsageNote], *, now: float) -> None:
        """What the provider has reported, and which texts were cut. See usage.record_usage."""
        await usage.record_usage(self._access, self._stem, notes, now=now)

    async def used_today(self) -> Used | None:
        return await usage.used_today(self._access, self._stem)

    async def is_filled(self) -> bool:
        """Whether an audit has read the whole table in the configuration in force."""
        return await self._pages.is_filled()

    async def record_filled(self) -> int | None:
        """The first audit is complete. Returns how many rows it has adopted; None if it was not to adopt any."""
        return await self._pages.record_filled()

    async def record_outcomes(self, outcomes: Sequence[tuple[str, LastOutcome]]) -> None:
        """Keep these as the last outcomes of their rows. See last_outcomes.record."""
        await last_outcomes.record(self._access, self._stem, outcomes)
