"""RowStore: reads and writes a source's rows, change marks and book-keeping. Each method uses short transactions.

Called by the reconciler (sweep, clear, audit, counts) and by the pipeline (read, write, counting of texts). Ids are text. An id
that the type of the id column can't represent is treated as the id of no row, so that no statement fails because of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from embedding_worker.providers.embedder import Vector
from embedding_worker.rows import change_marks
from embedding_worker.rows.database import Database, Row
from embedding_worker.rows.inspection import inspect_table
from embedding_worker.rows.schema import configuration_on_record, prepare_table
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import can_be_id
from embedding_worker.source import SourceConfig, TableColumn


@dataclass(frozen=True)
class DueRow:
    """A row with at least one change mark, as the sweep found it."""

    id: str
    newest_mark: int
    edited: bool
    """An application changed it; false if only the audit found it, as in a backfill."""
    content_hash: str | None
    """Of its present text; None if the row is gone."""
    blank: bool
    up_to_date: bool
    """It already has the vector of its present text, so only its marks have to be deleted."""
    gone: bool


@dataclass(frozen=True)
class DuePreview:
    id: str
    content_hash: str
    blank: bool


@dataclass(frozen=True)
class PresentRow:
    id: str
    text: str
    up_to_date: bool


@dataclass(frozen=True)
class NewerMark:
    id: str
    newest_mark: int
    content_hash: str | None
    """Of the present text; None if the row is gone."""


@dataclass(frozen=True)
class AuditPage:
    last_id: str | None
    """None at the end of the table: the next page is the first one."""
    rows: int
    marked: int


@dataclass(frozen=True)
class Counts:
    total: int
    due: int
    due_without_dead_letter: bool
    """At least one due row has no dead letter."""
    oldest_due_since: datetime | None
    estimated: bool


@dataclass(frozen=True)
class Used:
    """What was sent to the provider on a UTC day, for this table and column."""

    day: str
    texts: int
    tokens: int


@dataclass(frozen=True)
class VectorWrite:
    """What to write: the vector of the text with this hash, or None if that text is blank."""

    id: str
    content_hash: str
    vector: Vector | None


class RowStore:
    """The rows of one source, in the configuration in force."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._statements = statements
        self._fingerprint = statements.config.fingerprint
        self._search_path = (statements.layout.search_path,)

    @classmethod
    async def prepare(cls, database: Database, config: SourceConfig) -> "RowStore":
        """Create what the source needs in the database, and return its store.

        Raises SourceRefused (someone must act), RowsLocked or DatabaseUnavailable (try again later).
        """
        return cls(database, await prepare_table(database, config))

    @classmethod
    async def inspect(cls, database: Database, config: SourceConfig) -> "RowStore":
        """The store of a configuration that is only inspected: nothing is created. Raises as `prepare` does."""
        statements, _ = await inspect_table(database, config)
        return cls(database, statements)

    @staticmethod
    async def configuration_on_record(database: Database, at: TableColumn) -> str | None:
        """The configuration in force for this table and column (see SourceConfig.as_record); None if there is none yet."""
        return await configuration_on_record(database, at)

    def id_problem(self, row_id: str) -> str | None:
        """Why no row of the table can have this id, in a few words; None if a row can have it."""
        at, id_type = self._statements.config.at, self._statements.layout.id_type
        return None if can_be_id(id_type, row_id) else f"can't be one of {at}.{at.id_column}, which is {id_type}"

    def _possible(self, ids: Iterable[str]) -> list[str]:
        return [row_id for row_id in ids if can_be_id(self._statements.layout.id_type, row_id)]

    async def _fetch(self, sql: str, *params: object) -> list[Row]:
        async with self._database.transaction(search_path=self._search_path) as transaction:
            return await transaction.fetch(sql, *params)

    async def sweep(self, *, leave_out: Iterable[str], limit: int) -> list[DueRow]:
        """Up to `limit` due rows except those in `leave_out`: up to half are the newest edits, the others the oldest marks."""
        if limit < 1:
            return []
        left_out = self._possible(leave_out)
        rows = await self._fetch(self._statements.sweep, left_out, (limit + 1) // 2, limit, self._fingerprint)
        due = [
            DueRow(row_id, mark, edited, None if gone else content_hash, bool(blank), up_to_date, gone)
            for row_id, mark, edited, content_hash, blank, up_to_date, gone in rows
        ]
        return due[:limit]

    async def newer_marks(self, known: Mapping[str, int]) -> list[NewerMark]:
        """Those of these rows (id → newest mark known) that have a newer mark, with the hash of their present text."""
        ids = self._possible(known)
        if not ids:
            return []
        rows = await self._fetch(self._statements.newer_marks, ids, [known[row_id] for row_id in ids])
        return [NewerMark(*row) for row in rows]

    async def read(self, ids: Sequence[str]) -> dict[str, PresentRow]:
        """The rows as they are now, by id; a row that is gone is left out."""
        rows = await self._fetch(self._statements.read, self._possible(ids), self._fingerprint)
        return {row[0]: PresentRow(*row) for row in rows}

    async def write(self, rows: Sequence[VectorWrite]) -> set[str]:
        """Write the vectors and the book-keeping of rows whose text still has the given hash, and delete their marks.

        Returns the ids of the rows written. The others were edited, deleted, or locked by another session, which the caller
        finds out by reading them again.
        """
        rows = [row for row in rows if can_be_id(self._statements.layout.id_type, row.id)]
        written = await self._fetch(
            self._statements.write,
            [row.id for row in rows],
            [row.content_hash for row in rows],
            [None if row.vector is None else self._literal(row.vector) for row in rows],
            self._fingerprint,
        )
        return {row[0] for row in written}

    def _literal(self, vector: Vector) -> str:
        opening, closing = "{}" if self._statements.layout.vector_type.endswith("[]") else "[]"
        return opening + ",".join(map(repr, vector)) + closing

    async def clear(self, ids: Sequence[str]) -> None:
        """Delete the marks of rows that are up to date, or gone."""
        if possible := self._possible(ids):
            await self._fetch(self._statements.clear, possible, self._fingerprint)

    async def audit(self, *, after_id: str | None, limit: int) -> AuditPage:
        """Audit one page of the table by id: mark rows that are not up to date and have no mark, and delete the state of rows
        that are gone.
        """
        last_id, rows, marked = (await self._fetch(self._statements.audit, after_id, limit, self._fingerprint))[0]
        last_page = rows < limit
        await self._fetch(self._statements.orphans, after_id, None if last_page else last_id)
        return AuditPage(None if last_page else last_id, rows, marked)

    async def preview_due(self, *, after_id: str | None, limit: int) -> tuple[list[DuePreview], str | None]:
        """The rows of one page by id that are not up to date, and the last id of the page (None: it was the last page).

        Creates nothing, and works without the book-keeping.
        """
        statements = self._statements
        exists = await self._fetch(change_marks.BOOKKEEPING_EXISTS, statements.due, statements.state)
        page = await self._fetch(
            statements.due_preview(with_state=bool(exists[0][1])), after_id, limit, self._fingerprint
        )
        rows = [
            DuePreview(row_id, content_hash, blank)
            for row_id, content_hash, blank, up_to_date in page
            if not up_to_date
        ]
        return rows, page[-1][0] if len(page) == limit else None

    async def counts(self, *, dead_letters: Iterable[str] = ()) -> Counts:
        return Counts(*(await self._fetch(self._statements.counts, self._possible(dead_letters)))[0])

    async def would_embed(self) -> tuple[int, int]:
        """How many rows are not up to date in this configuration, and the bytes of their texts: one pass over the table."""
        rows, size = (await self._fetch(self._statements.would_embed, self._fingerprint))[0]
        return rows, size

    async def acquire_texts(self, texts: int, *, tokens: int, most_a_day: int) -> int:
        """Count texts as sent to the provider today. Returns how many of them the day's limit still allows."""
        stem = self._statements.config.at.bookkeeping_name
        async with self._database.transaction() as transaction:
            await transaction.fetch(change_marks.BEGIN_DAY, stem)
            granted = await transaction.fetch(change_marks.ACQUIRE_TEXTS, stem, texts, tokens, most_a_day)
        return int(granted[0][0])

    async def used_today(self) -> Used | None:
        found = await self._fetch(change_marks.USED_TODAY, self._statements.config.at.bookkeeping_name)
        return Used(*found[0]) if found else None

    async def is_filled(self) -> bool:
        """Whether an audit has read the whole table in the configuration in force."""
        record = await self._fetch(change_marks.SOURCE_RECORD, self._statements.config.at.bookkeeping_name)
        return bool(record) and record[0][1] == self._statements.config.signature

    async def record_filled(self) -> None:
        config = self._statements.config
        await self._fetch(change_marks.RECORD_FILLED, config.at.bookkeeping_name, config.signature)
