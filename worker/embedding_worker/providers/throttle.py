"""Stores until when a provider must not be called, because it answered 429. There is one throttle for each credential in use.

Owned by the provider registry, so that the pause applies to all sources that use the same endpoint and credential.
"""

from datetime import datetime, timedelta

from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderThrottled

PAUSE_S = 30.0
"""How long to pause if the provider does not say how long."""
LONGEST_PAUSE_S = 900.0
"""The longest pause, even if the provider asks for more. Also the pause if a quota of the day or of the account is used up."""
LOOK_EVERY_S = 1.0
"""How long it takes at most until a waiting call notices that the credential was rotated."""


def pause_s(error: ProviderThrottled) -> float:
    """How long not to call the provider after this error, in seconds."""
    if error.retry_after_s is not None:
        return min(max(0.0, error.retry_after_s), LONGEST_PAUSE_S)
    return LONGEST_PAUSE_S if error.quota_exhausted else PAUSE_S


class Throttle:
    """The pause that is in force for one endpoint and credential."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s = clock.monotonic()

    def pause(self, error: ProviderThrottled) -> None:
        """Pause for as long as this error asks. If a longer pause is already in force, it stays."""
        self._until_s = max(self._until_s, self._clock.monotonic() + pause_s(error))

    def remaining_s(self) -> float:
        """Seconds until a call may be made; 0 where it may be made now."""
        return max(0.0, self._until_s - self._clock.monotonic())

    @property
    def throttled_until(self) -> datetime | None:
        """The time until which no call is made; None if there is no pause."""
        remaining = self.remaining_s()
        return self._clock.now() + timedelta(seconds=remaining) if remaining else None
