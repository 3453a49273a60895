"""Rows in memory, with the conditional write of the real row store. Called by unit tests of what reads and writes rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from embedding_worker.errors import EmbeddingError, RowsRefused
from embedding_worker.providers.embedder import Vector
from embedding_worker.rows.store import PresentRow, VectorWrite
from embedding_worker.text import content_hash

REFUSAL = "PostgreSQL refuses the statement: CheckViolation (23514)"


@dataclass
class MemoryStore:
    """Rows by id. What stands in `errors` is raised first, by the name of the method."""

    texts: dict[str, str] = field(default_factory=dict)
    up_to_date: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    impossible: set[str] = field(default_factory=set)
    """Ids that the id column can't hold."""
    errors: dict[str, list[EmbeddingError]] = field(default_factory=dict)
    vectors: dict[str, Vector | None] = field(default_factory=dict)
    reads: int = 0

    def id_problem(self, row_id: str) -> str | None:
        return "can't be one of public.businesses.id, which is bigint" if row_id in self.impossible else None

    async def read(self, ids: Sequence[str]) -> dict[str, PresentRow]:
        self._fail("read")
        self.reads += 1
        return {row: PresentRow(row, self.texts[row], row in self.up_to_date) for row in ids if row in self.texts}

    async def write(self, rows: Sequence[VectorWrite]) -> set[str]:
        self._fail("write")
        if self.refused & {row.id for row in rows}:
            raise RowsRefused("DatabaseRefused", REFUSAL)
        written = {
            row.id: row.vector
            for row in rows
            if row.id not in self.locked and content_hash(self.texts.get(row.id, "gone")) == row.content_hash
        }
        self.vectors |= written
        self.up_to_date |= set(written)
        return set(written)

    def _fail(self, method: str) -> None:
        if self.errors.get(method):
            raise self.errors[method].pop(0)
