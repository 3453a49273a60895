"""Counts how many different texts a table has, by their hashes, in little memory. Used by `embedding-operator plan`. Pure."""

MOST_KEPT = 1 << 17
"""Hashes in memory. Up to so many different texts the count is exact, and beyond them its error is about 0.3%."""
BITS = 64


class DistinctTexts:
    """Keeps the hashes that are below a bound, and divides it by two whenever they become too many (adaptive sampling)."""

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        self._most_kept = most_kept
        self._divided = 0
        self._kept: set[int] = set()

    def add(self, content_hash: str) -> None:
        """`content_hash` is a SHA-256 in hexadecimal digits."""
        value = int(content_hash[: BITS // 4], 16)
        if value >> (BITS - self._divided):
            return
        self._kept.add(value)
        while len(self._kept) > self._most_kept:
            self._divided += 1
            self._kept = {kept for kept in self._kept if not kept >> (BITS - self._divided)}

    @property
    def number(self) -> int:
        return len(self._kept) << self._divided

    @property
    def is_estimated(self) -> bool:
        return self._divided > 0
