"""Stores until when a provider must not be called, because it answered 429. There is one throttle for each credential in use.

Owned by the provider registry, so that the pause applies to all sources that use the same endpoint and credential.
"""

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
        self._reason: ProviderThrottled | None = None

    def pause(self, error: ProviderThrottled) -> None:
        """Pause as this error asks. A longer pause that is already in force stays."""
        until_s = self._clock.monotonic() + pause_s(error)
        if until_s >= self._until_s:
            self._until_s, self._reason = until_s, error

    def remaining_s(self) -> float:
        """Seconds until a call may be made; 0 where it may be made now."""
        return max(0.0, self._until_s - self._clock.monotonic())

    @property
    def reason(self) -> ProviderThrottled | None:
        """The error that asked for the pause in force; None where there is no pause."""
        return self._reason if self.remaining_s() else None
