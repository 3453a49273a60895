"""Waiting for a condition with a deadline, in place of sleeping and hoping. Called by every test that waits.

A check says "not yet" by returning something false or by raising AssertionError; only the last one's words are shown.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    check: Callable[[], Awaitable[T]], *, within_s: float, every_s: float = 0.02, because: str
) -> T: ...
@overload
async def eventually(check: Callable[[], T], *, within_s: float, every_s: float = 0.02, because: str) -> T: ...
async def eventually(check: Callable[[], object], *, within_s: float, every_s: float = 0.02, because: str) -> object:
    """Return what `check` gives once it is true. Raises AssertionError with `because` and the last failure."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            found = check()
            result = await found if inspect.isawaitable(found) else found
        except AssertionError as exc:
            last = str(exc) or "an assertion without words"
        else:
            if result:
                return result
            last = f"it gave {result!r}"
        if time.monotonic() >= deadline:
            raise AssertionError(not_in_time(within_s, because, last))
        await asyncio.sleep(every_s)


def wait_until(check: Callable[[], T], *, within_s: float, every_s: float = 0.02, because: str) -> T:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            result = check()
        except AssertionError as exc:
            last = str(exc) or "an assertion without words"
        else:
            if result:
                return result
            last = f"it gave {result!r}"
        if time.monotonic() >= deadline:
            raise AssertionError(not_in_time(within_s, because, last))
        time.sleep(every_s)


def not_in_time(within_s: float, because: str, last: str) -> str:
    return f"not within {within_s:g} s, although {because}; at last: {last}"
