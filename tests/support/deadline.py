"""Waits for a condition with a deadline, instead of sleeping. Called by every test that waits.

A check returns a false value or raises AssertionError until the condition holds. At the deadline the last failure is shown.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

PAUSES = 2.0
"""The shortest pause after a check, as a multiple of the time that the check took."""
LONGEST_PAUSE_S = 0.5
"""An upper bound for that, where `every_s` is not longer."""


@overload
async def eventually(
    check: Callable[[], Awaitable[T]], *, within_s: float, every_s: float = 0.02, because: str
) -> T: ...
@overload
async def eventually(check: Callable[[], T], *, within_s: float, every_s: float = 0.02, because: str) -> T: ...
async def eventually(check: Callable[[], object], *, within_s: float, every_s: float = 0.02, because: str) -> object:
    """Return the first true result of `check`. Raises AssertionError with `because` and the last failure."""
    wait = _Wait(within_s, every_s, because)
    while True:
        try:
            found = check()
            result = await found if inspect.isawaitable(found) else found
            if result:
                return result
            last = repr(result)
        except AssertionError as exc:
            last = str(exc) or "an assertion without a message"
        await asyncio.sleep(wait.pause_s(last))


def wait_until(check: Callable[[], T], *, within_s: float, every_s: float = 0.02, because: str) -> T:
    """The same for tests without an event loop."""
    wait = _Wait(within_s, every_s, because)
    while True:
        try:
            result = check()
            if result:
                return result
            last = repr(result)
        except AssertionError as exc:
            last = str(exc) or "an assertion without a message"
        time.sleep(wait.pause_s(last))


class _Wait:
    """The deadline of one wait, and the pauses between its checks."""

    def __init__(self, within_s: float, every_s: float, because: str) -> None:
        self._within_s = within_s
        self._every_s = every_s
        self._because = because
        self._check_began = time.monotonic()
        self._deadline = self._check_began + within_s

    def pause_s(self, last: str) -> float:
        """The seconds until the next check, after one that failed. Raises AssertionError at the deadline.

        A check that takes long, such as a process of kubectl, is repeated less often, so that waiting tests leave the CPU to
        the others.
        """
        now = time.monotonic()
        if now >= self._deadline:
            raise AssertionError(f"not within {self._within_s:g} s, although {self._because}; the last result: {last}")
        pause_s = max(self._every_s, min(PAUSES * (now - self._check_began), LONGEST_PAUSE_S))
        self._check_began = now + pause_s
        return pause_s
