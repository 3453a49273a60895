"""The protocol of every provider's embedder, and the checks that every vector passes before it may be written."""

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from operator import truediv
from typing import Protocol, cast

from embedding_worker.errors import AnswerUnusable

Vector = Sequence[float]
BYTES_PER_TOKEN = 3
"""An estimate that is higher than the real number for most languages. The provider bills its own count."""
ROUNDING = 1e-6
"""A length that differs from 1 by less does so only because the numbers were rounded to 32 bits, as in the column."""
LARGEST = sys.float_info.max


class CountedVectors(list[Vector]):
    """The vectors of a call whose tokens the provider has counted."""

    def __init__(self, vectors: Iterable[Vector], *, tokens: int) -> None:
        super().__init__(vectors)
        self.tokens = tokens


class Embedder(Protocol):
    """Makes vectors of texts. It may also have `max_call_bytes` (see call_bytes_of), `first_texts`, and `prepare`.

    `async def prepare()` is called when a source is set up, and before each `embed`: it does what only the first call needs,
    such as making a client. The SDK has been imported then.
    """

    max_texts: int
    """Texts in one call."""
    max_text_bytes: int
    """UTF-8 bytes of one text."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Embed 1..max_texts texts that are not blank, in one call.

        Returns one vector per text, in input order, each of the model's dimensions and of unit length. They are CountedVectors
        where the provider reports the tokens of the call.
        Raises ProviderUnavailable (wait, try again), ProviderThrottled (pause), ProviderMisconfigured (someone must act) and
        InputRejected (never send these texts again). Writes nothing.
        """
        ...


def call_bytes_of(embedder: Embedder) -> int | None:
    """UTF-8 bytes of all texts in one call, where the provider limits them: `max_call_bytes`; None where it has none."""
    most: int | None = getattr(embedder, "max_call_bytes", None)
    return most


def first_texts_of(embedder: Embedder) -> int:
    """Texts in the first call, where it is not known how quick the server is: `first_texts`; `max_texts` where it has none."""
    return min(getattr(embedder, "first_texts", embedder.max_texts), embedder.max_texts)


def reported_tokens(vectors: Sequence[Vector]) -> int | None:
    """As many as the provider has counted for the call; None where it reports none."""
    return vectors.tokens if isinstance(vectors, CountedVectors) else None


def running_tokens(texts: Sequence[str]) -> list[int]:
    """An estimate of the tokens of the first text, of the first two, and so on."""
    return [size // BYTES_PER_TOKEN for size in accumulate(len(text.encode()) for text in texts)]


def tokens_of(texts: Sequence[str]) -> int:
    """An estimate of their tokens."""
    return sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN


def numbers(values: object) -> Vector:
    """A vector of an answer, if it is a list of numbers. Raises AnswerUnusable."""
    types = set(map(type, values)) if isinstance(values, list) else {None}
    if types == {float}:
        return cast(Vector, values)
    if types <= {float, int}:
        try:
            return list(map(float, cast(Vector, values)))
        except OverflowError:
            raise AnswerUnusable("a vector came with a value that is not a finite number") from None
    raise AnswerUnusable("a vector came that is null, or no list of numbers")


def check_vectors(vectors: Sequence[Vector], *, texts: int, dimensions: int) -> list[Vector]:
    """The vectors as they came, if each text has one and each is whole.

    Raises AnswerUnusable on a wrong number or size of vectors, or a value that is no finite number: pairing texts with too
    few vectors would write another row's vector.
    """
    if len(vectors) != texts:
        raise AnswerUnusable(f"{len(vectors)} vectors came for {texts} texts")
    for vector in vectors:
        try:
            size, total = len(vector), sum(vector)  # of all numbers by one call, because a loop takes ten times as long
        except TypeError:
            raise AnswerUnusable("a vector came that is null, or no list of numbers") from None
        except OverflowError:
            size, total = len(vector), math.inf
        if size != dimensions:
            raise AnswerUnusable(
                f"a vector of {size} dimensions came, and spec.model.dimensions is {dimensions}: set it to what the model gives, "
                "or choose another model"
            )
        if not abs(total) <= LARGEST:
            raise AnswerUnusable("a vector came with a value that is not a finite number")
    return list(vectors)


def at_unit_length(vectors: Sequence[Vector]) -> list[Vector]:
    """The same directions at length 1. Raises AnswerUnusable on a vector that has no direction."""
    lengths = [math.hypot(*vector) for vector in vectors]
    if not all(lengths):
        raise AnswerUnusable("a vector came that is zero throughout")
    return [_scaled(vector, length) for vector, length in zip(vectors, lengths, strict=True)]


def _scaled(vector: Vector, length: float) -> Vector:
    return vector if abs(length - 1) < ROUNDING else list(map(truediv, vector, repeat(length)))
