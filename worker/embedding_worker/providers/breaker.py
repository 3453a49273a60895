"""Keeps a circuit: moves it from state to state, logs each change, and informs the metrics and all who wait for a change.

Owned by the provider registry: one for each endpoint and credential, and one for each model of it. circuit.py decides.
"""

import asyncio
from datetime import datetime, timedelta

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderError
from embedding_worker.providers.circuit import Circuit, CircuitState
from embedding_worker.providers.observer import CallObserver, NoObserver
from embedding_worker.providers.problem import Problem, problem_of

log = structlog.get_logger(__name__)


class Breaker:
    """One circuit, and the calls that are in flight in it. `name` says what is called, for the log and the metrics."""

    def __init__(self, name: str, *, clock: Clock, observer: CallObserver) -> None:
        self.name = name
        self.changed = asyncio.Event()
        """Is set, and replaced by a new event, when the state or the number of calls in flight changes."""
        self.in_flight = 0
        self._circuit = Circuit()
        self._clock = clock
        self._observer: CallObserver = observer
        self._open_since = self._probe_at = clock.now()
        observer.circuit_changed(circuit=name, state=self._circuit.state)

    @property
    def is_closed(self) -> bool:
        return self._circuit.state is CircuitState.CLOSED

    @property
    def problem(self) -> Problem | None:
        """Why no call is made, since when, and when the next probe is sent; None if the circuit is closed."""
        error = self._circuit.error
        if self.is_closed or error is None:
            return None
        message = (
            f"no call is made since {self._open_since:%Y-%m-%dT%H:%M:%SZ}, until a fixed test text is embedded (next try at "
            f"{self._probe_at:%H:%M:%SZ}): {error.message}"
        )
        return Problem(problem_of(error).reason, message)

    @property
    def error(self) -> ProviderError | None:
        """Why the circuit is not closed; None if it is."""
        return None if self.is_closed else self._circuit.error

    def admits(self) -> bool:
        """Whether a call may begin now."""
        return self._circuit.admits(self.in_flight)

    def count(self, change: int) -> None:
        """A call begins (1) or ends (-1)."""
        self.in_flight += change
        self._notify()

    def open(self, error: ProviderError) -> None:
        """A canary has failed by this error."""
        now, before = self._clock.monotonic(), self._circuit
        self._move(before.opened(error, now))
        self._probe_at = self._in_wall_time(self._circuit.probe_at, now)
        self._open_since = self._in_wall_time(self._circuit.open_since, now)
        if before.state is CircuitState.CLOSED:
            log.warning("circuit opened", circuit=self.name, reason=problem_of(error).reason, message=error.message)

    def close(self) -> None:
        """A canary was answered. Nothing happens if the circuit is closed."""
        if not self.is_closed:
            log.info("circuit closed", circuit=self.name, was_open_since=f"{self._open_since:%Y-%m-%dT%H:%M:%SZ}")
            self._move(self._circuit.closed())

    def record_success(self) -> None:
        """A call for rows has succeeded."""
        self._circuit = self._circuit.succeeded()

    @property
    def may_probe(self) -> bool:
        """Whether the circuit is open, and it is time for a probe."""
        return self._circuit.may_probe(self._clock.monotonic())

    @property
    def probe_in_s(self) -> float:
        """Seconds until the next probe may be sent; 0 if the circuit is closed."""
        return 0.0 if self.is_closed else max(0.0, self._circuit.probe_at - self._clock.monotonic())

    def retry_now(self) -> None:
        """If it is open, send the next probe now."""
        now = self._clock.monotonic()
        self._circuit = self._circuit.hastened(now)
        self._probe_at = self._in_wall_time(self._circuit.probe_at, now)

    def begin_probe(self) -> bool:
        """Whether the caller is to send a probe now. It must open or close the circuit afterwards."""
        if not self.may_probe:
            return False
        self._move(self._circuit.probed())
        return True

    def retire(self) -> None:
        """The credential was rotated: the circuit is of no importance any more, and is shown as closed."""
        self._observer.circuit_changed(circuit=self.name, state=CircuitState.CLOSED)
        self._observer = NoObserver()
        self._notify()

    def stop_probing(self) -> None:
        """The probe has had no result: leave the circuit open for longer. Nothing happens if it is not probing."""
        if self._circuit.state is CircuitState.PROBING and self._circuit.error is not None:
            self.open(self._circuit.error)

    def _move(self, to: Circuit) -> None:
        if to.state is not self._circuit.state:
            self._observer.circuit_changed(circuit=self.name, state=to.state)
        self._circuit = to
        self._notify()

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def _in_wall_time(self, moment: float, now: float) -> datetime:
        return self._clock.now() + timedelta(seconds=moment - now)
