"""A clock that moves only when a test moves it. Given to everything that needs an `embedding_worker.clock.Clock`."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

Result = TypeVar("Result")

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTLE_TURNS = 50
"""Turns of the event loop after each step of time: enough for each task that was woken to come to its next wait."""


class FakeClock:
    """Starts at START, monotonic 1,000 s. Sleepers wake, in the order of their times, when `advance` passes them."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self.slept: list[float] = []
        """Every pause that was asked for, in seconds, in order."""

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return 1_000.0 + self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self._until(self._elapsed_s + seconds)

    async def wait_for(self, event: asyncio.Event, *, within_s: float) -> bool:
        if event.is_set():
            return True
        over = asyncio.create_task(self._until(self._elapsed_s + within_s))
        happened = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({over, happened}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            happened.cancel()
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: each sleeper is woken at its own moment, and runs to its next wait."""
        end = self._elapsed_s + seconds
        await settle()
        while due := [at for at, _ in self._sleepers if at <= end]:
            self._elapsed_s = max(self._elapsed_s, min(due))
            ready = [event for at, event in self._sleepers if at <= self._elapsed_s]
            self._sleepers = [(at, event) for at, event in self._sleepers if at > self._elapsed_s]
            for event in ready:
                event.set()
            await settle()
        self._elapsed_s = end
        await settle()

    async def _until(self, at: float) -> None:
        woken = asyncio.Event()
        sleeper = (at, woken)
        self._sleepers.append(sleeper)
        try:
            await woken.wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)


async def settle() -> None:
    """Let every task that can run come to its next wait."""
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)


async def let_time_pass(clock: FakeClock, work: Coroutine[Any, Any, Result], *, within_s: float = 3_600.0) -> Result:
    """What the work returns, while the clock moves on second by second. Fails if it is not done `within_s`."""
    task = asyncio.create_task(work)
    await settle()
    end_s = clock.monotonic() + within_s
    while not task.done():
        if clock.monotonic() > end_s:
            task.cancel()
            raise AssertionError(f"not done after {within_s:g} s")
        await clock.advance(1.0)
    return await task
