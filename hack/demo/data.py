"""The demo's data: a Yellow Book of invented businesses in many languages, and searches in it.

The businesses do not exist: phone numbers come from ranges reserved for fiction or, where a country reserves none,
are meant to be unassigned; e-mail domains are reserved ones.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

_CSV = Path(__file__).with_name("businesses.csv")


@dataclass(frozen=True)
class Business:
    name: str
    description: str
    phone: str
    email: str
    street: str
    city: str
    state: str
    postal_code: str
    country: str  # ISO 3166-1 alpha-2
    categories: tuple[str, ...]
    lat: float
    lng: float

    @property
    def text(self) -> str:
        """The text that is embedded. A new phone number does not change it."""
        return " ".join((self.name, self.description, *self.categories, self.city))


@dataclass(frozen=True)
class Search:
    query: str
    why: str


SEARCHES: tuple[Search, ...] = (
    Search(
        "a pipe is leaking in the bathroom",
        "asked in English, answered by a plumber in Berlin who writes of a Rohrbruch, and by others in their languages",
    ),
    Search(
        "where can I eat raw fish",
        "names no kind of restaurant: the first answer is a sushi bar in Tokyo, described in Japanese only",
    ),
    Search(
        "Wer stimmt mein Klavier?",
        "asked in German (who tunes my piano?), and the piano tuner found first writes in English",
    ),
    Search(
        "my tooth hurts",
        "the search names the complaint, not the trade: dentists in three scripts",
    ),
)


def businesses() -> list[Business]:
    with _CSV.open(encoding="utf-8", newline="") as file:
        return [_business(row) for row in csv.DictReader(file, strict=True)]


def _business(row: dict[str, str]) -> Business:
    return Business(
        name=row["name"],
        description=row["description"],
        phone=row["phone"],
        email=row["email"],
        street=row["street"],
        city=row["city"],
        state=row["state"],
        postal_code=row["postal_code"],
        country=row["country"],
        categories=tuple(row["categories"].split("|")),
        lat=float(row["lat"]),
        lng=float(row["lng"]),
    )
