"""Rows in memory, with the conditional write of the real row store. Called by unit tests of what reads and writes rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from embedding_worker.errors import EmbeddingError, RowsRefused
from embedding_worker.providers.embedder import Vector
from embedding_worker.rows.records import LastOutcome, PresentRow, VectorWrite, WriteResult
from embedding_worker.text import content_hash, is_blank

REFUSAL = "PostgreSQL refuses the statement: CheckViolation (23514)"
TEXT_FAILURE = "PostgreSQL refuses the statement: DivisionByZero (22012)"


@dataclass
class MemoryStore:
    """Rows by id. What stands in `errors` is raised first, by the name of the method."""

    texts: dict[str, str] = field(default_factory=dict)
    up_to_date: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    suppressed: set[str] = field(default_factory=set)
    """Ids of rows whose update a trigger suppresses."""
    failing: set[str] = field(default_factory=set)
    """Ids of rows for which the text expression fails."""
    impossible: set[str] = field(default_factory=set)
    """Ids that the id column can't hold."""
    errors: dict[str, list[EmbeddingError]] = field(default_factory=dict)
    vectors: dict[str, Vector | None] = field(default_factory=dict)
    reads: int = 0
    recorded: list[tuple[str, LastOutcome]] = field(default_factory=list)
    """The last outcomes of rows."""

    def id_problem(self, row_id: str) -> str | None:
        return "can't be one of public.businesses.id, which is bigint" if row_id in self.impossible else None

    async def read(self, ids: Sequence[str], *, characters: int) -> dict[str, PresentRow]:
        self._fail("read")
        self.reads += 1
        failing = {
            row: PresentRow(row, None, failure=RowsRefused("DatabaseRefused", TEXT_FAILURE, sqlstate="22012"))
            for row in ids
            if row in self.failing
        }
        return failing | {row: self._present(row, characters) for row in ids if row in self.texts}

    def _present(self, row: str, characters: int) -> PresentRow:
        text = self.texts[row]
        return PresentRow(
            row,
            content_hash(text),
            blank=is_blank(text),
            up_to_date=row in self.up_to_date,
            text=text[:characters],
            text_bytes=len(text.encode()),
        )

    async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
        if rows:
            self._fail("write")
        else:
            self._fail("check")
        if self.refused & {row.id for row in rows}:
            raise RowsRefused("DatabaseRefused", REFUSAL, sqlstate="23514")
        lockable = {
            row.id: row.vector
            for row in rows
            if row.id not in self.locked and content_hash(self.texts.get(row.id, "gone")) == row.content_hash
        }
        suppressed = self.suppressed & set(lockable)
        written = {row: vector for row, vector in lockable.items() if row not in suppressed}
        self.vectors |= written
        self.up_to_date |= set(written)
        return WriteResult(set(written), suppressed)

    async def record_outcomes(self, outcomes: Sequence[tuple[str, LastOutcome]]) -> None:
        self._fail("record_outcomes")
        self.recorded.extend(outcomes)

    async def rows_to_compare(self, *, except_ids: Sequence[str]) -> list[str]:
        return [row for row in self.up_to_date if row not in except_ids]

    async def try_write(self, ids: Sequence[str], vector: Vector | None = None) -> WriteResult:
        if self.refused & set(ids):
            raise RowsRefused("DatabaseRefused", REFUSAL, sqlstate="23514")
        tried = set(ids) - self.locked
        return WriteResult(tried - self.suppressed, tried & self.suppressed)

    def _fail(self, method: str) -> None:
        if self.errors.get(method):
            raise self.errors[method].pop(0)
