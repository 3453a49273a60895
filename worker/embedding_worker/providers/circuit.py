"""Decides whether a provider may be called, by a state machine: a circuit. Pure; kept by breaker.py, which carries it out.

- closed: calls are made. After an outage one at a time at first, so that the recovered provider meets no stampede.
- open: no call is made until the time of the next probe.
- probing: one canary is being sent; its result closes the circuit, or opens it again.

There is a circuit for each endpoint and credential, and one for each model of it. All moments are of the monotonic clock, in
seconds.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from embedding_worker.errors import ProviderError

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
SHARE_OF_OUTAGE = 0.25
"""The pause until the next probe, as a share of how long the circuit has been open. So after a short outage all goes on soon."""
UNLIMITED_FROM = 32
"""After an outage, each call that succeeds doubles the number of calls in flight. From so many on it is not limited."""


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(frozen=True)
class Circuit:
    """One state. The methods return the next one."""

    state: CircuitState = CircuitState.CLOSED
    error: ProviderError | None = None
    """Why the circuit is open, or was when it was last open, until a call has succeeded."""
    open_since: float = 0.0
    """When it was first opened since a call succeeded."""
    probe_at: float = 0.0
    """When the next probe may be sent."""
    most_in_flight: int | None = None
    """How many calls may be in flight at once; None: not limited."""

    def opened(self, error: ProviderError, now: float) -> "Circuit":
        """Any state → open: the provider is not well."""
        since = now if self.error is None else self.open_since
        pause_s = min(max((now - since) * SHARE_OF_OUTAGE, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        return Circuit(CircuitState.OPEN, error, since, now + pause_s)

    def may_probe(self, now: float) -> bool:
        """Whether it is open, and time for the next probe."""
        return self.state is CircuitState.OPEN and now >= self.probe_at

    def hastened(self, now: float) -> "Circuit":
        """The next probe may be sent now, if it is open: a person has repaired the cause."""
        return replace(self, probe_at=min(self.probe_at, now))

    def probed(self) -> "Circuit":
        """Open → probing: a canary is sent."""
        return replace(self, state=CircuitState.PROBING)

    def closed(self) -> "Circuit":
        """Open or probing → closed: the canary was answered. One call may be in flight until one has succeeded."""
        return replace(self, state=CircuitState.CLOSED, most_in_flight=1)

    def succeeded(self) -> "Circuit":
        """A call has succeeded. Changes nothing while the circuit is not closed: the call may have begun long before."""
        if self.state is not CircuitState.CLOSED or self.most_in_flight is None:
            return self
        most = self.most_in_flight * 2
        return Circuit(most_in_flight=most if most < UNLIMITED_FROM else None)

    def admits(self, in_flight: int) -> bool:
        """Whether another call may be made beside so many."""
        if self.state is not CircuitState.CLOSED:
            return False
        return self.most_in_flight is None or in_flight < self.most_in_flight
