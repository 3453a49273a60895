"""The weather of a simulated day: how the provider fares at each second. Pure; the chance is passed in.

Read by provider.py, which answers each call accordingly, and by the report, which counts by weather.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from embedding_worker.errors import (
    AnswerUnusable,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    Quota,
)

MINUTE_S, HOUR_S = 60.0, 3_600.0
DAY_S = 24 * HOUR_S
HANGS_S = 3_600.0
"""A call that hangs is ended by its deadline."""
USUAL_S = (0.2, 0.6)
"""How long an answer takes."""

Failure = Callable[[Random], ProviderError | None]
"""The error of the next call; None where it succeeds."""


@dataclass(frozen=True)
class Weather:
    name: str
    failure: Failure = lambda chance: None
    answer_s: tuple[float, float] = USUAL_S


@dataclass(frozen=True)
class Spell:
    """One kind of weather, from a moment of the day on until the next spell."""

    begins_s: float
    weather: Weather


def at_times(share: float, error: Callable[[Random], ProviderError]) -> Failure:
    """This share of the calls fails, each independently of the others."""
    return lambda chance: error(chance) if chance.random() < share else None


def broken(chance: Random) -> ProviderError:
    """One of the failures that have nothing to do with the text."""
    kind = chance.randrange(4)
    if kind == 0:
        return ProviderUnavailable("the server failed", code="500 INTERNAL")
    if kind == 1:
        return ProviderUnavailable("the server is overloaded", code="503 UNAVAILABLE")
    if kind == 2:
        return AnswerUnusable("7 vectors came for 8 texts")
    return ProviderUnavailable("the connection was reset")


def away(chance: Random) -> ProviderError:
    return ProviderUnavailable("the connection was refused", reached=False)


def refused(chance: Random) -> ProviderError:
    return InputRejected("InputRejected", "the server refuses the request", code="400 INVALID_ARGUMENT")


def revoked(chance: Random) -> ProviderError:
    return ProviderMisconfigured("the key is not valid", code="400 API_KEY_INVALID", reason="ApiKeyInvalid")


def forbidden(chance: Random) -> ProviderError:
    return ProviderMisconfigured("the key has no right to it", code="403 PERMISSION_DENIED", reason="PermissionDenied")


def throttled(chance: Random) -> ProviderError:
    return ProviderThrottled("too many requests", code="429", retry_after_s=chance.uniform(3, 30))


def throttled_silently(chance: Random) -> ProviderError:
    return ProviderThrottled("too many requests", code="429")


def day_used_up(chance: Random) -> ProviderError:
    return ProviderThrottled("the quota of the day is used up", code="429", quota=Quota.DAY)


CLEAR = Weather("clear")
OUTAGE = Weather("outage", at_times(1, away))
REFUSALS = Weather("15% refused", at_times(0.15, refused))
SLOW = Weather("slow answers", answer_s=(2, 20))


def failing(percent: int) -> Weather:
    return Weather(f"{percent}% failing", at_times(percent / 100, broken))


def hours(begins: float, *spells: tuple[float, Weather]) -> list[Spell]:
    """Spells from this hour on; each has its minutes, and the next one begins after them."""
    found, at_s = list[Spell](), begins * HOUR_S
    for minutes, weather in spells:
        found.append(Spell(at_s, weather))
        at_s += minutes * MINUTE_S
    return found


A_DAY = [
    *hours(0, (60, CLEAR), (60, failing(10)), (60, failing(30)), (60, failing(50)), (60, failing(80))),
    *hours(5, (60, CLEAR)),
    *hours(6, (2, OUTAGE), (13, CLEAR), (5, OUTAGE), (20, CLEAR), (12, OUTAGE), (8, CLEAR)),
    *hours(7, (60, OUTAGE)),
    *hours(8, (60, SLOW)),
    *hours(9, (60, REFUSALS)),
    *hours(10, (60, Weather("key revoked", at_times(1, revoked)))),
    *hours(11, (60, CLEAR)),
    *hours(12, (5, Weather("all refused", at_times(1, refused))), (55, REFUSALS)),
    *hours(13, (60, Weather("30% throttled", at_times(0.3, throttled)))),
    *hours(14, (60, Weather("30% throttled, silently", at_times(0.3, throttled_silently)))),
    *hours(15, (10, CLEAR), (10, Weather("hanging", answer_s=(HANGS_S, HANGS_S))), (40, CLEAR)),
    *hours(16, (60, Weather("50% failing, slow", failing(50).failure, (2, 20)))),
    *hours(17, (30, Weather("right withdrawn", at_times(1, forbidden))), (30, failing(30))),
    *hours(18, (180, Weather("quota of the day", at_times(1, day_used_up)))),
    *hours(21, (60, CLEAR), (60, failing(80)), (60, CLEAR)),
]
"""Every kind of failure that docs/design.md names of a provider, with clear hours between some of them."""


def weather_at(spells: list[Spell], second: float) -> Weather:
    """The weather of this second of the simulation; the last spell goes on after the day."""
    return next(spell.weather for spell in reversed(spells) if spell.begins_s <= second)
