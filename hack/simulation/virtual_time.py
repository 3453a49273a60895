"""An event loop whose clock jumps to the next timer in place of waiting for it, and a clock of the operator on this loop.

Called by the simulation, where a day takes seconds, and by its tests. Order and times are those of a real loop on a machine that
needs no time to compute. Nothing outside of the process may be waited for: no thread, no socket.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from embedding_worker.clock import SystemClock

START = datetime(2026, 3, 1, tzinfo=UTC)
Result = TypeVar("Result")
Events = list[tuple[selectors.SelectorKey, int]]


class NothingScheduled(Exception):
    """Every task waits for another one, so no time would ever come at which one goes on."""


class VirtualSelector(selectors.SelectSelector):
    """Returns at once, and lets the time pass that it was asked to wait."""

    def __init__(self, spend: Callable[[float], None]) -> None:
        super().__init__()
        self._spend = spend

    def select(self, timeout: float | None = None) -> Events:
        """No events, since nothing outside of the process is waited for. Raises NothingScheduled where no timer is set."""
        if timeout is None:
            raise NothingScheduled("every task waits, and none of them for a time")
        if timeout > 0:
            self._spend(timeout)
        return []


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s. Time passes only where no task can run."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__(VirtualSelector(self._spend))

    def time(self) -> float:
        return self._now_s

    def _spend(self, seconds: float) -> None:
        self._now_s += seconds


class VirtualClock(SystemClock):
    """The time of the running VirtualEventLoop, which begins at START."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run_in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    """What `main` returns, however long it sleeps. Raises what it raises."""
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        return runner.run(main)
