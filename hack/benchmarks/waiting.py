"""Waits for a condition. Called by the measurements, where the moment itself is read from the database."""

import time
from collections.abc import Callable

from hack.errors import ToolError

EVERY_S = 0.2


def wait_until(condition: Callable[[], bool], *, within_s: float, because: str, every_s: float = EVERY_S) -> None:
    """Return when it is true. Raises ToolError when it is not within the time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise ToolError(f"waited {within_s:g} s in vain until {because}")
        time.sleep(every_s)
