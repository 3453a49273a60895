"""Decides whether texts may be sent to a model now, by a limit for each minute. Pure; kept by search_embedder.py."""

BURST_S = 10.0
"""After a pause, what the limit allows in so many seconds may be sent at once."""


class Allowance:
    """A token bucket. All moments are of the monotonic clock, in seconds."""

    def __init__(self, per_minute: int, *, now: float, least_burst: int) -> None:
        """`least_burst` texts may be sent at once, however low the limit is."""
        self._per_s = per_minute / 60
        self._most = max(self._per_s * BURST_S, least_burst)
        self._left = self._most
        self._at = now

    def acquire(self, texts: int, now: float) -> float:
        """0 if so many texts may be sent now, which counts them; otherwise after how many seconds they may, and counts none."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < texts:
            return (texts - self._left) / self._per_s
        self._left -= texts
        return 0.0
