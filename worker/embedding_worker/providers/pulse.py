"""Notices that this process was stopped for a while: calls that failed meanwhile show nothing about provider or row. Pure.

A paused virtual machine, a CPU limit or an overloaded event loop stops it. All moments are of the monotonic clock, in seconds.
"""

BEAT_EVERY_S = 0.5
STOPPED_AFTER_S = 2.5
"""A longer time between two beats means that the process was stopped, or its event loop was."""


class Pulse:
    """Beats twice a second while the process runs."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._stopped_until = float("-inf")

    def beat(self, now: float) -> None:
        if self.was_stopped(since=now, now=now):
            self._stopped_until = now
        self._last = now

    def was_stopped(self, *, since: float, now: float) -> bool:
        """Whether the process was stopped at some time after `since`. False before the first beat."""
        if self._last is None:
            return False
        return self._stopped_until >= since or now - self._last > STOPPED_AFTER_S
