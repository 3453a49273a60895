"""Stores until when a provider must not be called, because it answered 429. There is one throttle for each credential in use.

Owned by the provider registry, so that the pause applies to all sources that use the same endpoint and credential.
"""

from datetime import datetime, timedelta

from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderThrottled
from embedding_worker.providers.problem import Problem, problem_of

FIRST_PAUSE_S = 1.0
"""How long to pause if the provider does not say how long. Doubled with each further answer 429, until a call succeeds."""
LONGEST_PAUSE_S = 900.0
"""The longest pause, even if the provider asks for more. Also the pause if a quota of the day or of the account is used up."""

SHOWN_AFTERWARDS_S = 60.0
"""A pause is shown for so long after its end, because the first call after it may be answered 429 again."""


def pause_s(error: ProviderThrottled, *, times: int) -> float:
    """How long not to call the provider after this error, in seconds. It is the last of `times` in a row."""
    if error.quota_exhausted:
        return LONGEST_PAUSE_S
    own_s = FIRST_PAUSE_S * 2.0 ** min(times - 1, 20)
    asked_s = error.retry_after_s
    if asked_s is not None and times > 1:
        asked_s = max(asked_s, own_s)
    return min(max(0.0, own_s if asked_s is None else asked_s), LONGEST_PAUSE_S)


class Throttle:
    """The pause that is in force for one endpoint and credential."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s = clock.monotonic()
        self._until: datetime = clock.now()
        self._reason: ProviderThrottled | None = None
        self.times = 0
        """How often the provider has answered 429 since a call succeeded. Answers to calls that were in flight count once."""

    def pause(self, error: ProviderThrottled, *, began: float) -> None:
        """Pause as this error asks. `began`: when the call began (monotonic). A longer pause that is in force stays."""
        if self.times == 0 or began >= self._until_s:
            self.times += 1
        pause = pause_s(error, times=self.times)
        until_s = self._clock.monotonic() + pause
        if until_s >= self._until_s:
            self._until_s, self._reason = until_s, error
            self._until = self._clock.now() + timedelta(seconds=pause)

    def end(self) -> None:
        """Calls may be made now. What the provider has answered stays known until one succeeds."""
        self._until_s, self._until = min(self._until_s, self._clock.monotonic()), min(self._until, self._clock.now())

    def record_success(self) -> None:
        """A call has succeeded."""
        self.times = 0
        if not self.remaining_s():
            self._reason = None

    @property
    def until(self) -> datetime:
        """When the pause is over, or was."""
        return self._until

    def remaining_s(self) -> float:
        """Seconds until a call may be made; 0 where it may be made now."""
        return max(0.0, self._until_s - self._clock.monotonic())

    @property
    def problem(self) -> Problem | None:
        """The last answer 429, and until when no call is made. None if a call has succeeded since, or could have for a minute."""
        if self._reason is None or self._clock.monotonic() > self._until_s + SHOWN_AFTERWARDS_S:
            return None
        problem = problem_of(self._reason)
        return Problem(problem.reason, f"{problem.message}; no call is made before {self._until:%Y-%m-%dT%H:%M:%SZ}")
