"""The vectors of the fake server. Called by it, and by tests that want to know which vector belongs to a text."""

import hashlib
import struct


def fake_vector(text: str, dimensions: int) -> list[float]:
    """The text's own vector: always the same, and unlike any other's. Values in [-1, 1), not at unit length.

    Fewer dimensions are the beginning of more, as with the real model.
    """
    seed = hashlib.sha256(text.encode()).digest()
    numbers = struct.unpack(f"<{dimensions}i", hashlib.shake_256(seed).digest(4 * dimensions))
    return [number / 2**31 for number in numbers]
