"""The simulated provider: answers by the weather of the moment, never for a poison text, and counts what it is sent.

Its vectors tell the row that they belong to. Canaries are recognized by their text, which is no row's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderError, ProviderUnavailable
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.provider import Provider
from hack.simulation.weather import Spell, Weather, broken, forbidden, refused, weather_at

NAME = "simulated"
DEADLINE_S = 15.0
"""A call that takes longer fails, as one to Gemini does."""
ROW = "row "
"""How the text of every row begins; its number follows."""
POISON = {"answered 400": refused, "answered 403": forbidden, "answered 500": broken}
"""What the provider answers to a call with one of these texts, by the end of the text."""


def text_of(row: int, poison: str = "") -> str:
    return f"{ROW}{row} {poison}".rstrip()


def vector_of(text: str) -> Vector:
    """Of a row's text: its number. Of any other text: nothing of any row."""
    return [float(text.split()[1]) if text.startswith(ROW) else -1.0, 0.0]


@dataclass
class Counts:
    """What the provider was sent."""

    calls: Counter[str] = field(default_factory=Counter)
    """Calls with rows, by the weather."""
    canaries: Counter[str] = field(default_factory=Counter)
    texts: int = 0


@dataclass
class SimulatedEmbedder:
    """See embedding_worker.providers.embedder.Embedder."""

    spells: list[Spell]
    clock: Clock
    chance: Random
    counts: Counts = field(default_factory=Counts)
    max_texts: int = 100
    max_text_bytes: int = 8_192

    @property
    def weather(self) -> Weather:
        return weather_at(self.spells, self.clock.monotonic())

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        weather = self.weather
        self._count(texts, weather.name)
        error = weather.failure(self.chance) or self._poisoned(texts)
        answer_s = self.chance.uniform(*weather.answer_s)
        await self.clock.sleep(min(answer_s, DEADLINE_S))
        if answer_s > DEADLINE_S:
            raise ProviderUnavailable(f"no answer came in {DEADLINE_S:g} s")
        if error is not None:
            raise error
        return [vector_of(text) for text in texts]

    def _count(self, texts: Sequence[str], weather: str) -> None:
        is_of_rows = texts[0].startswith(ROW)
        (self.counts.calls if is_of_rows else self.counts.canaries)[weather] += 1
        self.counts.texts += len(texts)

    def _poisoned(self, texts: Sequence[str]) -> ProviderError | None:
        for ending, answer in POISON.items():
            if any(text.endswith(ending) for text in texts):
                return answer(self.chance)
        return None


def registered(embedder: SimulatedEmbedder) -> Mapping[str, Provider]:
    """The providers of a registry that knows this one only."""
    return {NAME: Provider(NAME, make=lambda model, values: embedder)}
