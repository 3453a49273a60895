"""Reads a source's whole table in pages, by id: for the audit, and for the number of rows that a change would embed.

Called by store.py. A page that is too slow for the statement timeout is read in smaller pages, and a row whose text fails is
separated from the others of its page.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from embedding_worker.errors import RowsRefused, StatementTimedOut
from embedding_worker.rows import change_marks
from embedding_worker.rows.adoption import AdoptingStatements
from embedding_worker.rows.database import Row
from embedding_worker.rows.each_row import EachRow, Fetch
from embedding_worker.rows.records import AuditPage, DuePreview, PreviewPage
from embedding_worker.rows.statements import Statements

Run = Callable[..., Awaitable[list[Row]]]
"""Runs a statement with its parameters, in a transaction of its own."""
OfEachRow = Callable[[Sequence[str], Fetch], Awaitable[EachRow]]
"""Runs a statement on rows by id, as each_row.of_each_row does."""
SMALLEST_PAGE = 10
"""Below this, rows are separated one by one."""
ORPHANS_AT_ONCE = 5_000
MOST_DELETIONS = 20
"""How many statements delete the state of rows that are gone, after one page."""


class Pages:
    def __init__(
        self, run: Run, of_each_row: OfEachRow, statements: Statements, fingerprint: str, *, adopts: bool = False
    ) -> None:
        self._run = run
        self._of_each_row = of_each_row
        self._statements = statements
        self._fingerprint = fingerprint
        self._largest: int | None = None
        self._orphans_at_once = ORPHANS_AT_ONCE
        self._adopting = AdoptingStatements(statements.config, statements.layout)
        self.adopts = adopts
        """The first audit is not complete yet, and takes over the vectors that it finds."""

    async def audit(self, *, after_id: str | None, limit: int) -> AuditPage:
        """Mark the rows of one page that are not up to date and have no mark, and delete the state of rows that are gone.

        The page may be smaller than `limit`. Raises SourceRefused, RowsLocked or DatabaseUnavailable.
        """
        limit = min(limit, self._largest or limit)
        audit = self._adopting.adopting_audit if self.adopts else self._statements.audit
        try:
            last_id, rows, marked = (await self._run(audit, after_id, limit, self._fingerprint))[0]
            page = AuditPage(last_id if rows >= limit else None, rows, marked)
        except RowsRefused as exc:
            if self._shrink(exc, limit):
                return await self.audit(after_id=after_id, limit=limit)
            page = await self._audit_each_row(after_id, limit, all_texts=exc.is_of_the_table)
        else:
            self._grow(limit)
        await self._delete_orphans(after_id, page.last_id)
        return page

    async def _delete_orphans(self, after_id: str | None, last_id: str | None) -> None:
        """Delete the state of rows that are gone. If these are too many, as after TRUNCATE, the next passes delete the others."""
        for _ in range(MOST_DELETIONS):
            try:
                deleted = (await self._run(self._statements.orphans, after_id, last_id, self._orphans_at_once))[0][0]
            except StatementTimedOut:
                self._orphans_at_once = max(self._orphans_at_once // 4, SMALLEST_PAGE)
                return
            if deleted < self._orphans_at_once:
                return

    def _shrink(self, error: RowsRefused, limit: int) -> bool:
        """After an error with a page of `limit` rows: whether a smaller page is to be tried."""
        if not isinstance(error, StatementTimedOut) or limit <= SMALLEST_PAGE:
            return False
        self._largest = max(SMALLEST_PAGE, limit // 4)
        return True

    def _grow(self, limit: int) -> None:
        """After a page that was read in time, a larger one may be: the large rows may be behind us."""
        if self._largest is not None and limit >= self._largest:
            self._largest *= 2

    async def _audit_each_row(self, after_id: str | None, limit: int, *, all_texts: bool) -> AuditPage:
        """Audit a page in which a text expression fails: rows for which it fails are marked, so that they get a job too.

        Rows that have a mark are due already, and most of the rows that fail are such rows. So their texts are not read, unless
        `all_texts` is asked for, to find out whether the failure is the table's.
        """
        page, last_id = await self._page_ids(after_id, limit)
        ids = page if all_texts else [row[0] for row in await self._run(self._statements.unmarked, page)]

        async def look(part: Sequence[str]) -> list[Row]:
            return await self._run(self._statements.look, part, self._fingerprint)

        found = await self._of_each_row(ids, look)
        due = [row_id for row_id, _, _, up_to_date in found.rows.values() if not up_to_date]
        if self.adopts:
            adopted = {row[0] for row in await self._run(self._adopting.adopt, due, len(due), self._fingerprint)}
            due = [row_id for row_id in due if row_id not in adopted]
        marked = await self._run(self._statements.mark, [*due, *found.failures])
        return AuditPage(last_id, len(page), len(marked))

    async def _page_ids(self, after_id: str | None, limit: int) -> tuple[list[str], str | None]:
        ids = [row[0] for row in await self._run(self._statements.page_ids, after_id, limit)]
        return ids, ids[-1] if len(ids) >= limit else None

    async def is_filled(self) -> bool:
        """Whether an audit has read the whole table in the configuration in force."""
        config = self._statements.config
        record = await self._run(change_marks.SOURCE_RECORD, config.at.bookkeeping_name)
        return bool(record) and record[0][1] == config.signature

    async def record_filled(self) -> int | None:
        """The first audit is complete. Returns how many rows it has adopted; None if it was not to adopt any."""
        config, adopts = self._statements.config, self.adopts
        found = await self._run(change_marks.RECORD_FILLED, config.at.bookkeeping_name, config.signature)
        self.adopts = False
        return int(found[0][0]) if adopts and found else None

    async def preview(self, *, after_id: str | None, limit: int) -> PreviewPage:
        """The rows of one page that are not up to date. Creates nothing, and works without the book-keeping.

        The page may be smaller than `limit`.
        """
        statements = self._statements
        exists = await self._run(change_marks.BOOKKEEPING_EXISTS, statements.marks, statements.state)
        return await self._preview(after_id, limit, with_state=bool(exists[0][1]))

    async def _preview(self, after_id: str | None, limit: int, *, with_state: bool) -> PreviewPage:
        limit = min(limit, self._largest or limit)
        sql = self._previewing.due_preview(with_state=with_state)
        try:
            rows: Sequence[Row] = await self._run(sql, after_id, limit, self._fingerprint)
        except RowsRefused as exc:
            if self._shrink(exc, limit):
                return await self._preview(after_id, limit, with_state=with_state)
            return await self._preview_each_row(after_id, limit, with_state=with_state)
        self._grow(limit)
        return PreviewPage(_not_up_to_date(rows), rows[-1][0] if len(rows) == limit else None)

    @property
    def _previewing(self) -> Statements:
        return self._adopting if self.adopts else self._statements

    async def _preview_each_row(self, after_id: str | None, limit: int, *, with_state: bool) -> PreviewPage:
        ids, last_id = await self._page_ids(after_id, limit)

        async def look(part: Sequence[str]) -> list[Row]:
            return await self._run(self._previewing.preview(with_state=with_state), part, self._fingerprint)

        found = await self._of_each_row(ids, look)
        failing = [DuePreview(row_id, None, False, 0) for row_id in found.failures]
        return PreviewPage(_not_up_to_date(found.rows.values()) + failing, last_id)


def _not_up_to_date(rows: Any) -> list[DuePreview]:
    return [
        DuePreview(row_id, content_hash, blank, text_bytes)
        for row_id, content_hash, blank, up_to_date, text_bytes in rows
        if not up_to_date
    ]
