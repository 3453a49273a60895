"""The faults of the fake server: what fails, for which calls and how often. Set over its control address."""

import random
from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class FaultKind(StrEnum):
    REFUSED_TEXT = "400"
    INVALID_KEY = "400-key"
    FAILED_PRECONDITION = "400-precondition"
    UNAUTHENTICATED = "401"
    FORBIDDEN = "403"
    UNKNOWN_MODEL = "404"
    THROTTLED = "429"
    THROTTLED_TOKENS = "429-tokens"
    """The tokens of the minute are used up."""
    DAY_QUOTA = "429-day"
    SPEND_QUOTA = "429-spend"
    """The project has reached its monthly spending cap."""
    THROTTLED_PLAIN = "429-plain"
    """Without details, as most 429 are that name no quota."""
    INTERNAL = "500"
    UNAVAILABLE = "503"
    SLOW = "slow"
    """Answers `seconds` later, alone or together with another fault."""
    HANG = "hang"
    """No answer until the client closes the connection."""
    TRICKLE = "trickle"
    """The headers at once, then a byte of the answer each second, until the client closes the connection."""
    TRICKLE_HEADERS = "trickle-headers"
    """A byte of a header each second, until the client closes the connection."""
    REDIRECT = "redirect"
    """A 307 to `location`."""
    BAD_GATEWAY = "502"
    """A page of HTML, as proxies answer."""
    CLOSE_AT_ONCE = "close-at-once"
    """The connection is closed before any answer."""
    CLOSE = "close"
    """The connection is closed in the middle of the answer."""
    NOT_JSON = "not-json"
    """A page of HTML with code 200, as some gateways send."""
    TRUNCATED = "truncated"
    """The first half of an answer, as if it was the whole one."""
    GZIP = "gzip"
    """A right answer, compressed."""
    BOMB = "bomb"
    """64 MB of spaces, compressed to 64 KB."""
    SHUFFLED = "shuffled"
    """A right answer in another order, where the API numbers its vectors."""
    NUMBERS = "numbers"
    """A right answer in numbers, although base64 was asked for, as some servers do not know it."""
    TOO_FEW = "too-few"
    """One vector less than texts."""
    ONE_FOR_ALL = "one-for-all"
    """One vector for all texts."""
    WRONG_SIZE = "wrong-size"
    """One dimension less than asked for."""
    NAN = "nan"
    INFINITE = "infinite"
    ZERO = "zero"
    """A vector that is zero throughout."""
    NULL_VALUES = "null-values"
    NULL_VECTOR = "null-vector"
    ERROR_BODY = "200-error"
    """The body of a 500 with code 200."""


class Fault(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    times: int | None = Field(None, ge=1, description="the number of calls that fail; none: until it is lifted")
    ratio: float = Field(1.0, gt=0, le=1, description="the share of the calls that fail")
    only_matching: str | None = Field(None, min_length=1, description="only calls with a text that contains this fail")
    more_than: int = Field(0, ge=0, description="only calls with more texts than this fail")
    seconds: float = Field(7.0, ge=0, description="429: the pause that is asked for; slow: the delay")
    as_page: bool = Field(
        False, description="the error is a page of HTML with the same code, as a filter or a proxy answers"
    )
    location: str = Field("", description="redirect: the address of the other host")


class Faults:
    """The faults in force. Of several that apply to a call, the first decides its answer; slowness is added to it."""

    def __init__(self, seed: int = 0) -> None:
        self._left: list[tuple[Fault, list[int]]] = []
        self._random = random.Random(seed)  # noqa: S311 (the same calls get the same faults each time)

    def add(self, fault: Fault) -> None:
        self._left.append((fault, [] if fault.times is None else [fault.times]))

    def lift(self) -> None:
        self._left.clear()

    def in_force(self) -> list[Fault]:
        return [fault for fault, left in self._left if left != [0]]

    def pick_for(self, texts: Sequence[str]) -> list[Fault]:
        """Count this call, and return its faults: any number of SLOW, and at most one other."""
        hits: list[Fault] = []
        for fault, left in self._left:
            decided = any(hit.kind is not FaultKind.SLOW for hit in hits)
            if left == [0] or (decided and fault.kind is not FaultKind.SLOW):
                continue
            if fault.more_than and len(texts) <= fault.more_than:
                continue
            if fault.only_matching is not None and not any(fault.only_matching in text for text in texts):
                continue
            if self._random.random() >= fault.ratio:
                continue
            if left:
                left[0] -= 1
            hits.append(fault)
        return hits
