"""The protocol of every provider's embedder, and the checks that every vector passes before it may be written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from embedding_worker.errors import AnswerUnusable
from embedding_worker.providers.attribution import Evidence

Vector = Sequence[float]


class Embedder(Protocol):
    """Makes vectors of texts."""

    max_texts: int
    """Texts in one call."""
    max_text_bytes: int
    """UTF-8 bytes of one text."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Embed 1..max_texts texts that are not blank, in one call.

        Returns one vector per text, in input order, each of the model's dimensions and of unit length.
        Raises ProviderUnavailable (wait, try again), ProviderThrottled (pause), ProviderMisconfigured (someone must act) and
        InputRejected (never send these texts again). Writes nothing.
        """
        ...


@dataclass(frozen=True)
class Problem:
    """Why no calls are made, or why they fail: a reason in CamelCase, and a sentence."""

    reason: str
    message: str


class SharedEmbedder(Embedder, Protocol):
    """An embedder of one source, whose endpoint and credential other sources use too.

    `embed` also raises CallsPaused, if no call may be made now.
    """

    @property
    def problem(self) -> Problem | None:
        """What prevents calls of all sources, or has until one succeeds; None if nothing does."""
        ...

    @property
    def may_call(self) -> bool:
        """Whether the circuits are closed and the throttle is over."""
        ...

    @property
    def evidence(self) -> Evidence:
        """What the recent calls of all sources with this model have shown."""
        ...

    @property
    def throttled_times(self) -> int:
        """How often the provider has answered 429 since a call succeeded."""
        ...

    async def send_canary(self) -> None:
        """Find out whether the provider is well. Opens the circuit, and raises the error, if it is not."""
        ...

    def begin_probe(self) -> bool:
        """Whether the circuit is open, and the caller is to call `probe` now."""
        ...

    async def probe(self) -> None:
        """Send a canary although the circuit is open, and close it, or leave it open for longer. Raises no ProviderError."""
        ...

    def cancel_probe(self) -> None:
        """The probe cannot be sent now: another source may do it."""
        ...

    def beat(self) -> None:
        """The process is running. To be called twice a second, so that a time in which it was stopped is noticed."""
        ...


def check_vectors(vectors: Sequence[Vector], *, texts: int, dimensions: int) -> list[Vector]:
    """The vectors as they came, if each text has one and each is whole.

    Raises AnswerUnusable on a wrong number or size of vectors, or a value that is not finite: pairing texts with too
    few vectors would write another row's vector.
    """
    if len(vectors) != texts:
        raise AnswerUnusable(f"{len(vectors)} vectors came for {texts} texts")
    for vector in vectors:
        if len(vector) != dimensions:
            raise AnswerUnusable(f"a vector of {len(vector)} dimensions came, {dimensions} were asked for")
        if not all(math.isfinite(value) for value in vector):
            raise AnswerUnusable("a vector came with a value that is not a finite number")
    return list(vectors)


def at_unit_length(vectors: Sequence[Vector]) -> list[Vector]:
    """The same directions at length 1. Raises AnswerUnusable on a vector that has no direction."""
    lengths = [math.hypot(*vector) for vector in vectors]
    if not all(lengths):
        raise AnswerUnusable("a vector came that is zero throughout")
    return [[value / length for value in vector] for vector, length in zip(vectors, lengths, strict=True)]
