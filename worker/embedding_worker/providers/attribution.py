"""Decides whether a failed call counts as an attempt of its row, by evidence about the provider. Pure; called by calls.py.

A call fails because of the provider, or because of one of its texts. Three kinds of calls show something about the provider
itself: calls that succeed, canaries (see canary.py), and failed calls for whose texts other calls succeeded. A failure
counts only if calls that began after it show that the provider is well. Other failures show nothing: their cause may be
another row's text, so that some rows that fail in earnest would keep each other from ever being found out.

All moments are of the monotonic clock, in seconds. What began after what is told by numbers, because two moments may be equal.
"""

import itertools
from collections import deque
from dataclasses import dataclass
from enum import Enum

REMEMBERED_S = 600.0
"""A failure of the provider is remembered for so long, unless RECENT_CALLS others have come since. With a minute, rows that are
due a few minutes apart were seen to lose attempts while half of all calls failed."""
RECENT_CALLS = 20
WITHIN_S = 60.0
ENOUGH_CALLS = 10
"""So many calls that all have succeeded within a minute show how well the provider is; with fewer, more canaries have to."""
WELL_SHARE = 0.95
"""One of 20. With nine of ten, and 30% of all calls failing at random, good rows were seen to lose attempts."""
CANARIES = 3
"""How many calls in a row must succeed after a failure. With rows one at a time, and half of all calls failing at random, one
canary was seen to make 0.13% of the rows dead letters, and three none of 100,000."""
CANARIES_AMONG_MANY = 1
REFUSED_WRONGLY_S = 600.0
"""For so long after the provider has refused what it accepts otherwise, no refusal counts: it makes a dead letter at once."""
SEVERAL = 2
DOUBT_AFTER_FAILURES = 2
DOUBT_AFTER_S = 2.0


class Verdict(Enum):
    WELL = "Well"
    """The failure is the row's own."""
    NOT_WELL = "NotWell"
    """Nothing is decided: too many other calls have failed a short time ago."""
    ASK = "Ask"
    """One more canary is needed."""


@dataclass(frozen=True)
class Call:
    number: int
    """Given when it began. Of two calls, the later one has the higher number."""
    ended: float
    succeeded: bool


class Evidence:
    """What recent calls have shown about one model of one endpoint and credential."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=RECENT_CALLS)
        self._succeeded_at = float("-inf")
        self._failures_since = 0
        self._refused_wrongly_at = float("-inf")
        self._numbers = itertools.count()

    def next_number(self) -> int:
        """The number of a call that begins now, or of a failure that has just happened."""
        return next(self._numbers)

    def record_success(self, number: int, now: float) -> None:
        """The call, or canary, of this number has succeeded."""
        self._calls.append(Call(number, now, succeeded=True))
        self._succeeded_at = now
        self._failures_since = 0

    def record_provider_failure(self, number: int, now: float, *, refused: bool) -> None:
        """A canary has failed, or a call for whose texts other calls have succeeded."""
        self._calls.append(Call(number, now, succeeded=False))
        if refused:
            self._refused_wrongly_at = now

    def record_failure(self) -> None:
        """A call has failed, and it is not known why."""
        self._failures_since += 1

    @property
    def any_succeeded(self) -> bool:
        """Whether any call, or canary, has succeeded."""
        return self._succeeded_at > float("-inf")

    def some_calls_fail(self, now: float) -> bool:
        """Whether calls have failed because of the provider several times within a minute, with others between that succeeded."""
        latest = [call.succeeded for call in self._calls if now - call.ended <= WITHIN_S]
        times = sum(before and not after for before, after in itertools.pairwise([True, *latest]))
        return times >= SEVERAL

    def is_in_doubt(self, now: float) -> bool:
        """Whether a canary has to show that the provider is well before a failed batch is bisected further."""
        return self._failures_since > DOUBT_AFTER_FAILURES or now - self._succeeded_at > DOUBT_AFTER_S

    def trusts_refusals(self, now: float) -> bool:
        """Whether the provider has refused only texts that it always refuses."""
        return now - self._refused_wrongly_at > REFUSED_WRONGLY_S

    def verdict(self, failure: int, now: float, *, refused: bool) -> Verdict:
        """What is shown about the failure of this number. If it was a refusal, three canaries are needed in any case."""
        recent = [call for call in self._calls if now - call.ended <= REMEMBERED_S]
        succeeded = sum(call.succeeded for call in recent)
        latest = sum(now - call.ended <= WITHIN_S for call in recent)
        fresh = [call for call in recent if call.number > failure]
        in_a_row = sum(1 for _ in itertools.takewhile(lambda call: call.succeeded, reversed(fresh)))
        all_well = not refused and latest >= ENOUGH_CALLS and succeeded == len(recent)
        missing = max(0, (CANARIES_AMONG_MANY if all_well else CANARIES) - in_a_row)
        if fresh and succeeded + missing < WELL_SHARE * (len(recent) + missing):
            return Verdict.NOT_WELL  # but one canary is sent in any case: it shows whether the provider is away now
        return Verdict.ASK if missing else Verdict.WELL
