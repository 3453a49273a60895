"""The vectors of the fake server. Called by it, and by tests that compare a row's vector with the one of its text."""

import hashlib
import struct


def fake_vector(text: str, dimensions: int) -> list[float]:
    """The vector of a text: the same each time, and different for different texts. Values in [-1, 1), not of unit length.

    A vector of fewer dimensions is a prefix of a longer one, as with the real model.
    """
    seed = hashlib.sha256(text.encode()).digest()
    numbers = struct.unpack(f"<{dimensions}i", hashlib.shake_256(seed).digest(4 * dimensions))
    return [number / 2**31 for number in numbers]
