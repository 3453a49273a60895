"""Searches over the demo's businesses with known answers, and the recall of a model. Pure; called by measure.py and by tests.

searches.csv has 40 searches, as people would type them. For each, exactly one of the 335 businesses is right. That was decided
from the texts of the businesses alone, and written down before a model had answered any of them; none was changed or left out
afterwards. Half of them are asked in the language of the business's text, and half in another one.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("searches.csv")


@dataclass(frozen=True)
class Search:
    asked_in: str
    """ISO 639-1."""
    answered_in: str
    """The language of the right business's text."""
    query: str
    answer: str
    """The name of the business that is right."""

    @property
    def across_languages(self) -> bool:
        return self.asked_in != self.answered_in


def searches() -> list[Search]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return [Search(**row) for row in csv.DictReader(file, strict=True)]


@dataclass(frozen=True)
class Recall:
    """The share of the searches whose right business is the first answer, and among the first five."""

    at_1: float
    at_5: float

    @classmethod
    def of(cls, ranks: Sequence[int]) -> "Recall":
        """Of the ranks of the right businesses, the first of which is 1."""
        return cls(*(sum(rank <= depth for rank in ranks) / len(ranks) for depth in (1, 5)))
