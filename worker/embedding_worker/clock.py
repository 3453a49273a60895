"""The clock that every module which waits or reads the time is given, so that tests control the time.

The process creates one `SystemClock`. Tests use the clock of tests/support/fake_clock.py, which only moves when a test moves it.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The time, and waiting. Wall-clock time is for people and statuses; durations are measured by `monotonic`."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` have passed."""
        ...

    async def wait_for(self, event: asyncio.Event, *, within_s: float) -> bool:
        """Return as soon as the event is set (True), or after `within_s` seconds (False). Does not clear it."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait_for(self, event: asyncio.Event, *, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                return await event.wait()
        except TimeoutError:
            return False
