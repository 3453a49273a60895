"""Decides which texts of a batch go into one call: fewer after larger calls have failed, and slowly more again. Pure.

A large call that fails although its texts are embedded in smaller calls was too large for the server (a limit of texts or bytes,
or more than it can embed before the deadline), or it has failed by chance. It was too large if none of its size has succeeded
since the last one that failed.

A call that reaches its deadline makes the next ones smaller at once, as the server may go on computing what nobody waits for.
"""

from collections.abc import Iterable

GROW_AFTER_CALLS = 10
LONGEST_GROW_AFTER_CALLS = 640
QUICK_S = 5.0
"""Only calls that take no longer let calls grow: one with twice as many texts will be far from the deadline, too."""


class CallSize:
    """The size that was learned for one source. `most` is what the provider documents."""

    def __init__(self, most: int, *, first: int | None = None) -> None:
        """`first`: the size of the first calls, which doubles with each full one while all are quick; None for `most`."""
        self._most = most
        self._grow_after = GROW_AFTER_CALLS
        self._calls = 0
        """So many full calls have succeeded since the size has changed."""
        self._accepted = 0
        """The size of the largest call that has succeeded, since one of at least this size has failed."""
        self._is_trying = False
        """The size was doubled, and no call of it has succeeded yet."""
        self._quick = 0
        """The same of calls that were quick."""
        self.texts = min(most, first or most)
        """How many texts the next call may contain."""
        self._is_starting = self.texts < most
        """No call has failed yet for its size."""

    def record_accepted(self, texts: int, *, seconds: float = 0.0) -> None:
        """A call with so many texts has succeeded. After enough full ones that were quick, twice as many texts are tried."""
        self._accepted = max(self._accepted, texts)
        if seconds > QUICK_S:
            return
        self._quick = max(self._quick, texts)
        if texts < self.texts:
            return
        if self._is_trying:
            self._is_trying, self._grow_after = False, GROW_AFTER_CALLS
        self._calls += 1
        if self.texts < self._most and (self._is_starting or self._calls >= self._grow_after):
            was_starting = self._is_starting
            self._set(self.texts * 2)
            self._is_trying, self._is_starting = True, was_starting

    def was_too_large(self, texts: int, *, accepted: int) -> bool:
        """Whether a call with so many texts has failed because they were too many. Calls with up to `accepted` have succeeded.

        If it was too large, the next calls are smaller. If it was so because of the last growth, the next growth comes later.
        """
        if texts <= self._accepted:
            self._accepted = accepted
            return False
        self._delay_growth()
        self._set(min(self.texts, accepted))
        return True

    def record_timeout(self, texts: int) -> None:
        """A call with so many texts got no answer before its deadline: the next ones are smaller.

        It was not too large if one of its size was quick since the last one that reached it: then one text may be the cause.
        """
        if texts == 1:
            return
        if texts <= self._quick:
            self._quick = 0
            return
        self._delay_growth()
        self._accepted = min(self._accepted, texts - 1)
        self._set(min(self.texts, texts // 2))

    def shrink(self) -> None:
        """Make smaller calls: the provider throttles them repeatedly, or the limit of the day came before a decision."""
        self._set(self.texts // 2)

    def _delay_growth(self) -> None:
        if self._is_trying:
            self._grow_after = min(self._grow_after * 2, LONGEST_GROW_AFTER_CALLS)

    def _set(self, texts: int) -> None:
        self.texts = max(1, min(texts, self._most))
        self._calls = 0
        self._is_trying = self._is_starting = False


def calls_for(texts: Iterable[str], *, most_texts: int, most_bytes: int | None) -> list[list[str]]:
    """The texts of each call, in order: as many together as the limits allow. A text that is larger than `most_bytes` is alone.

    `most_bytes`: UTF-8 bytes of all texts of a call; None without such a limit.
    """
    calls: list[list[str]] = []
    room = 0
    for text in texts:
        size = 0 if most_bytes is None else len(text.encode())
        if not calls or len(calls[-1]) >= most_texts or size > room:
            calls.append([])
            room = most_bytes or 0
        calls[-1].append(text)
        room -= size
    return calls
