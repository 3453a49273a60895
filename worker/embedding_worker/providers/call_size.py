"""Decides how many texts a call contains: fewer after the server has refused calls as too large, and slowly more again. Pure."""

GROW_AFTER_CALLS = 10
LONGEST_GROW_AFTER_CALLS = 640


class CallSize:
    """The size that was learned for one source. `most` is what the provider documents."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._grow_after = GROW_AFTER_CALLS
        self._accepted = 0
        self._is_trying = False
        """The size was doubled, and no call of it has been made yet."""
        self.texts = most
        """How many texts the next call may contain."""

    def record_accepted(self, texts: int) -> None:
        """A call with so many texts has succeeded. After enough full calls, twice as many texts are tried."""
        if texts < self.texts:
            return
        if self._is_trying:
            self._is_trying, self._grow_after = False, GROW_AFTER_CALLS
        self._accepted += 1
        if self._accepted >= self._grow_after and self.texts < self._most:
            self._set(self.texts * 2)
            self._is_trying = True

    def record_too_large(self, accepted: int) -> None:
        """A call was refused, and calls with at most `accepted` of its texts each were not.

        If it was larger because of the last growth, the next growth comes later.
        """
        if self._is_trying:
            self._grow_after = min(self._grow_after * 2, LONGEST_GROW_AFTER_CALLS)
        self._set(min(self.texts, accepted))

    def record_throttled_again(self) -> None:
        """The provider has throttled calls repeatedly, perhaps because each of them is larger than its quota."""
        self._set(self.texts // 2)

    def _set(self, texts: int) -> None:
        self.texts = max(1, min(texts, self._most))
        self._accepted = 0
        self._is_trying = False
