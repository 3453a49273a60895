"""The arithmetic of docs/scaling.md: how long a table takes, and what it needs, from measured figures. Pure.

`python -m hack.benchmarks.scaling` prints the tables of that page; tests/unit/hack/test_scaling.py compares them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import typer

TABLES = (1_000_000, 100_000_000)
TEXTS_OF_A_CALL = 100
TOKENS_OF_A_LISTING = 60
CALL_S = 0.2
AUDITED_PER_S = 42_000
"""Rows that the first audit reads in a second (docs/reliability.md has the range; this is its lower end)."""


@dataclass(frozen=True)
class Quota:
    """What a provider accepts in a minute."""

    requests: int
    tokens: int

    def rows_per_s(self, tokens_of_a_row: int = TOKENS_OF_A_LISTING) -> float:
        """The rows that may be sent in a second, in full calls."""
        return min(self.requests * TEXTS_OF_A_CALL, self.tokens / tokens_of_a_row) / 60


@dataclass(frozen=True)
class Speed:
    what: str
    rows_per_s: float


@dataclass(frozen=True)
class Bytes:
    """What each row needs in PostgreSQL (docs/database.md), with 768 dimensions."""

    what: str
    of_a_row: int


TIER_1, TIER_2 = Quota(3_000, 1_000_000), Quota(5_000, 5_000_000)
JOBS_PER_S = 120
BACKFILL_PER_S = 7_900
SPEEDS = (
    Speed("an EmbeddingJob for each row (`mode: Jobs`)", JOBS_PER_S),
    Speed("quota of 1,000,000 tokens a minute", TIER_1.rows_per_s()),
    Speed("quota of 5,000,000 tokens a minute", TIER_2.rows_per_s()),
    Speed("a backfill in the operator's process, on two cores with PostgreSQL", BACKFILL_PER_S),
)
SIZES = (
    Bytes("vectors, in TOAST", 4_147),
    Bytes("state, which stays", 142 + 23),
    Bytes("change marks, until each row has its vector", 61 + 61),
    Bytes("WAL of the first fill, without full-page images", 228 + 4_237),
    Bytes("an HNSW index", 4_095),
)


def seconds(rows: int, rows_per_s: float) -> float:
    return rows / rows_per_s


def calls_in_flight(rows_per_s: float, *, call_s: float = CALL_S) -> float:
    """How many calls have to be in flight for this speed (Little's law)."""
    return rows_per_s * call_s / TEXTS_OF_A_CALL


def duration(took_s: float) -> str:
    """In the largest unit of which there are at least two."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if took_s >= 2 * length:
            return f"{_digits(took_s / length)} {unit}"
    return f"{_digits(took_s)} s"


def size(of_bytes: float) -> str:
    """In decimal units."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if of_bytes >= length:
            return f"{_digits(of_bytes / length)} {unit}"
    return f"{of_bytes:.0f} bytes"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *lines))


def times_table() -> str:
    """How long the first fill takes, by what limits it."""
    headings = ("limit", "rows a second", "calls in flight", *(f"{rows:,} rows" for rows in TABLES))
    lines = [
        (
            speed.what,
            f"{speed.rows_per_s:,.0f}",
            _digits(calls_in_flight(speed.rows_per_s)),
            *(duration(seconds(rows, speed.rows_per_s)) for rows in TABLES),
        )
        for speed in SPEEDS
    ]
    return _table(headings, lines)


def sizes_table() -> str:
    """What PostgreSQL holds and writes."""
    headings = ("what", "bytes of a row", *(f"{rows:,} rows" for rows in TABLES))
    lines = [(each.what, f"{each.of_a_row:,}", *(size(rows * each.of_a_row) for rows in TABLES)) for each in SIZES]
    return _table(headings, lines)


def main() -> None:
    """Print the tables of docs/scaling.md."""
    typer.echo(f"{times_table()}\n\n{sizes_table()}")


if __name__ == "__main__":
    typer.run(main)
