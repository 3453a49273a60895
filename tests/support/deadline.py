"""Waits for a condition with a deadline, so that no test sleeps for a fixed time. Called by every test that waits.

A check is repeated while it returns a false value or raises AssertionError. Any other exception ends the wait at once.
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
    """Return the first true result of `check`.

    Raises AssertionError after `within_s` seconds, with the last result and `because`: the reason why it was expected.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            found = check()
            result = await found if inspect.isawaitable(found) else found
        except AssertionError as exc:
            last = str(exc) or "an assertion without a message"
        else:
            if result:
                return result
            last = repr(result)
        if time.monotonic() >= deadline:
            raise AssertionError(timeout_message(within_s, because, last))
        await asyncio.sleep(every_s)


def wait_until(check: Callable[[], T], *, within_s: float, every_s: float = 0.02, because: str) -> T:
    """Like `eventually`, for tests without an event loop."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            result = check()
        except AssertionError as exc:
            last = str(exc) or "an assertion without a message"
        else:
            if result:
                return result
            last = repr(result)
        if time.monotonic() >= deadline:
            raise AssertionError(timeout_message(within_s, because, last))
        time.sleep(every_s)


def timeout_message(within_s: float, because: str, last: str) -> str:
    return f"not within {within_s:g} s, although {because}; last result: {last}"
