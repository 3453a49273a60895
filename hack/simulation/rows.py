"""The rows of a simulated day: when each becomes due, and a store that keeps them in memory.

Most are due at the start or in bursts, as a first fill and imports are, and the others one at a time, as edits are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from embedding_worker.limits import Granted, Limits
from embedding_worker.providers.embedder import Vector
from embedding_worker.rows.records import (
    LastOutcome,
    PresentRow,
    RateGrant,
    RateLimits,
    UsageNote,
    VectorWrite,
    WriteResult,
)
from embedding_worker.text import content_hash
from hack.simulation.provider import POISON, text_of
from hack.simulation.weather import HOUR_S

FIRST_FILL, IN_BURSTS = 0.4, 0.46
"""Shares of the rows; the others become due one at a time."""
SOURCES = ("shops", "offices")
"""They share one key."""


@dataclass(frozen=True)
class SimulatedRow:
    id: str
    source: str
    text: str
    content_hash: str
    due_s: float
    poison: str = ""
    """What the provider answers to its text, whatever the weather; empty if the row is innocent."""


def rows_of_a_day(count: int, chance: Random, *, hours: int) -> list[SimulatedRow]:
    """So many rows that become due in the first hours of the day, in the order of their times.

    Each kind of poison has one row, in the burst of any hour.
    """
    first_fill, in_bursts = int(count * FIRST_FILL), int(count * IN_BURSTS)
    alone = count - first_fill - in_bursts
    due = [0.0] * first_fill
    due += [n % hours * HOUR_S for n in range(in_bursts)]
    due += [hours * HOUR_S * n / alone for n in range(alone)]
    poison = dict(zip(chance.sample(range(first_fill, first_fill + in_bursts), len(POISON)), POISON, strict=True))
    rows = [_row(number, due_s, poison.get(number, "")) for number, due_s in enumerate(due)]
    return sorted(rows, key=lambda row: row.due_s)


def _row(number: int, due_s: float, poison: str) -> SimulatedRow:
    text = text_of(number, poison)
    return SimulatedRow(str(number), SOURCES[number % len(SOURCES)], text, content_hash(text), due_s, poison)


@dataclass
class MemoryRows:
    """What the pipeline needs of a row store (embedding_worker.rows.store.RowStore), for a table without locks and refusals."""

    rows: dict[str, SimulatedRow]
    vectors: dict[str, Vector | None] = field(default_factory=dict)

    def id_problem(self, row_id: str) -> str | None:
        return None

    async def acquire_texts(self, tokens: Sequence[int], limits: Limits) -> Granted:
        return Granted(len(tokens))

    async def return_texts(self, texts: int, *, tokens: int, counted_s_ago: float) -> None:
        return

    async def acquire_rate(
        self, key: str, limits: RateLimits, *, texts: int, tokens: int, longest_wait_s: float
    ) -> RateGrant:
        return RateGrant(granted=True, wait_s=0.0)

    async def record_usage(self, notes: Sequence[UsageNote], *, now: float) -> None:
        return

    async def read(self, ids: Sequence[str], *, characters: int) -> dict[str, PresentRow]:
        return {row_id: self._present(self.rows[row_id]) for row_id in ids}

    async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
        written = {row.id: row.vector for row in rows if self.rows[row.id].content_hash == row.content_hash}
        self.vectors |= written
        return WriteResult(set(written), set())

    async def record_outcomes(self, outcomes: Sequence[tuple[str, LastOutcome]]) -> None:
        """The day's own records say what became of each row."""

    def _present(self, row: SimulatedRow) -> PresentRow:
        return PresentRow(
            row.id,
            row.content_hash,
            up_to_date=row.id in self.vectors,
            text=row.text,
            text_bytes=len(row.text),
        )
