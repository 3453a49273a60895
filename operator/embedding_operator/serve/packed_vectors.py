"""Vectors as they are kept and sent: 32-bit floats, little-endian, as pgvector stores them. And a cache of them. Pure.

Owned by search_embedder.py.
"""

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Sequence

from embedding_worker.source import Model

PackedVector = bytes
Key = tuple[Model, bytes]
"""The model that embeds the text, with the settings of search texts, and a hash of the text."""


def pack(vector: Sequence[float]) -> PackedVector:
    return struct.pack(f"<{len(vector)}f", *vector)


def unpack(vector: PackedVector) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def key_of(model: Model, text: str) -> Key:
    """By what the vector of this text is known. The text itself is not kept."""
    return model, hashlib.sha256(text.encode()).digest()


class VectorCache:
    """The vectors of the last texts. The one that was not asked for the longest is forgotten first."""

    def __init__(self, most: int) -> None:
        """`most` vectors are kept; 0 for none."""
        self._most = most
        self._vectors: OrderedDict[Key, PackedVector] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: Key) -> PackedVector | None:
        if key in self._vectors:
            self._vectors.move_to_end(key)
        return self._vectors.get(key)

    def put(self, key: Key, vector: PackedVector) -> None:
        self._vectors[key] = vector
        self._vectors.move_to_end(key)
        while len(self._vectors) > self._most:
            self._vectors.popitem(last=False)
