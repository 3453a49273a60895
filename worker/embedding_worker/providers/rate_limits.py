"""The rate limits of a provider, from its settings, and what a call uses of them. Pure.

Used by the registration of each provider that calls a server, and by rows/rate_limits.py, which makes all processes keep the
limits together.
"""

from functools import partial

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.provider import Provider, ProviderSetting, Values
from embedding_worker.rows.records import RateLimits

SHARE = 0.98
"""So much of a limit is used. The rest is for bursts (BURST_S), and for calls that arrive later than planned."""
BURST_S = 0.6
"""After a pause, what the limit allows in so many seconds may be sent at once."""
HIGHEST = 1_000_000_000
KINDS = {"requests": "requests", "texts": "texts", "tokens": "tokens, of about three bytes each,"}
"""The kinds of limits, by their fields in RateLimits and the beginnings of their variables' names, with words for them."""


def pace(limit: int | None) -> float | None:
    """How much is sent in a second, on average; None if there is no limit."""
    return None if limit is None else SHARE * limit / 60


def use_of(amount: int, limit: int | None) -> float:
    """How much of the limit a call with this amount uses: a little more than the amount where calls do not fill a minute exactly.

    Of calls with 40% of the limit, two may be sent in a minute, and each uses half of it. Of larger calls than the limit one is
    sent, and uses several minutes.
    """
    if limit is None or amount < 1:
        return 0.0
    return limit / (limit // amount) if amount <= limit else float(amount)


def rate_limit_settings(provider: str) -> tuple[ProviderSetting, ...]:
    """The settings with which a provider of this name, or of this `limits_name`, registers its rate limits."""
    return tuple(
        ProviderSetting(
            variable := _variable(provider, kind),
            f"the largest number of {words} that all processes together send to {provider} in a minute",
            usable=partial(_usable_limit, variable),
        )
        for kind, words in KINDS.items()
    )


def rate_limits(provider: Provider, values: Values) -> RateLimits:
    """The limits that are set. Raises SourceRefused where one is no whole number."""
    usable = provider.usable_values(values)
    given = {kind: usable.get(_variable(provider.limits_name or provider.name, kind)) for kind in KINDS}
    return RateLimits(**{kind: int(value) for kind, value in given.items() if value is not None})


def _variable(provider: str, kind: str) -> str:
    return f"EMBEDDING_{provider.upper().replace('-', '_')}_{kind.upper()}_PER_MINUTE"


def _usable_limit(variable: str, value: str) -> str:
    digits = value.strip().lstrip("0")
    if digits.isascii() and digits.isdigit() and len(digits) <= len(str(HIGHEST)) and int(digits) <= HIGHEST:
        return digits
    raise SourceRefused(
        "RateLimitInvalid", f"{variable} is {value!r}: set a whole number from 1 to {HIGHEST}, or unset it for no limit"
    )
