"""What became of each row of a simulated day, and what it cost. Printed by `make simulate`; its figures are tested."""

from collections import Counter
from dataclasses import dataclass, field

from embedding_worker.providers.embedder import Vector
from hack.simulation.provider import Counts, vector_of
from hack.simulation.rows import SimulatedRow
from hack.simulation.weather import HOUR_S

CALLS_FOR_THE_WEATHER = 4_000
ROWS_FOR_A_CALL = 4
"""What a day may cost, as docs/reliability.md states it: so many calls whatever the rows are, and one call for so many rows."""


@dataclass
class Report:
    rows: list[SimulatedRow] = field(repr=False)
    vectors: dict[str, Vector | None] = field(default_factory=dict, repr=False)
    dead_letters: dict[str, str] = field(default_factory=dict)
    """The reason of each dead letter, by the row's id."""
    attempts: Counter[str] = field(default_factory=Counter)
    """Attempts that failed and were counted, of innocent rows, by the weather at their end."""
    attempts_by_row: Counter[str] = field(default_factory=Counter, repr=False)
    counts: Counts = field(default_factory=Counts)
    ended_s: float = 0.0
    """When the last row had its end."""
    cpu_s: float = 0.0

    @property
    def innocent_dead_letters(self) -> list[str]:
        return [f"{row.text}: {self.dead_letters[row.id]}" for row in self.rows if self._is_innocent_dead_letter(row)]

    @property
    def poison_dead_letters(self) -> dict[str, str]:
        """The reasons of the poison rows' dead letters, by what the provider answers to their texts."""
        return {
            row.poison: self.dead_letters[row.id] for row in self.rows if row.poison and row.id in self.dead_letters
        }

    @property
    def not_fresh(self) -> list[str]:
        """Innocent rows without the vector of their own text."""
        return [row.text for row in self.rows if not row.poison and self.vectors.get(row.id) != vector_of(row.text)]

    @property
    def fresh(self) -> int:
        return sum(self.vectors.get(row.id) == vector_of(row.text) for row in self.rows)

    @property
    def calls(self) -> int:
        """With rows and with canaries."""
        return self.counts.calls.total() + self.counts.canaries.total()

    @property
    def calls_allowed(self) -> int:
        return CALLS_FOR_THE_WEATHER + len(self.rows) // ROWS_FOR_A_CALL

    def _is_innocent_dead_letter(self, row: SimulatedRow) -> bool:
        return row.id in self.dead_letters and not row.poison

    def table(self) -> str:
        """In Markdown."""
        lines = [
            "| what | figure |",
            "| --- | --- |",
            f"| rows, of which fresh at the end | {len(self.rows):,}, {self.fresh:,} |",
            f"| innocent dead letters | {len(self.innocent_dead_letters):,} |",
            f"| dead letters of the poison rows | {_listed(self.poison_dead_letters)} |",
            f"| counted attempts of innocent rows | {self.attempts.total():,} ({_listed(self.attempts)}) |",
            f"| the most of one innocent row | {max(self.attempts_by_row.values(), default=0)} |",
            f"| calls with rows, their texts and those of canaries | {self.counts.calls.total():,}, {self.counts.texts:,} |",
            f"| canaries | {self.counts.canaries.total():,} |",
            f"| all calls, of which are allowed | {self.calls:,}, {self.calls_allowed:,} |",
            f"| hours until the last row had its end | {self.ended_s / HOUR_S:.2f} |",
            f"| seconds of CPU | {self.cpu_s:.1f} |",
            "",
            "| weather | calls with rows | canaries | counted attempts of innocent rows |",
            "| --- | --- | --- | --- |",
        ]
        seen = [*self.counts.calls, *(name for name in self.counts.canaries if name not in self.counts.calls)]
        lines += [
            f"| {name} | {self.counts.calls[name]:,} | {self.counts.canaries[name]:,} | {self.attempts[name]:,} |"
            for name in seen
        ]
        return "\n".join(lines)


def _listed(figures: Counter[str] | dict[str, str]) -> str:
    return ", ".join(f"{name}: {figure}" for name, figure in figures.items()) or "none"
