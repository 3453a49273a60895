"""How much a source may send (spec.limits), and which of its limits is reached. Pure.

Made by the operator from a source's spec; applied in the statement that counts texts (rows/usage.py). The record of a backfill
carries them to its workers (rows/backfills.py).
"""

from dataclasses import dataclass

from embedding_worker.errors import LimitReached, SourceRefused
from embedding_worker.providers.embedder import BYTES_PER_TOKEN

TEXTS_PER_DAY = 1_000_000
"""Where the spec sets no limit of texts."""
MILLION = 1_000_000
MOST = 2.0**62
"""A bigint of PostgreSQL has room for it."""
UNTIL_MIDNIGHT = "raise it, or wait until midnight UTC"
UNTIL_NEXT_MONTH = "raise it, or wait until the next month begins (UTC)"


def cost_of(tokens: int, price_per_million_tokens: float) -> float:
    """In the currency of the price."""
    return tokens * price_per_million_tokens / MILLION


@dataclass(frozen=True)
class Sent:
    """What was sent for one table and column."""

    texts: int
    """Today (UTC)."""
    tokens: int
    """Today."""
    tokens_of_month: int
    """In the present calendar month (UTC), today included."""


@dataclass(frozen=True)
class Limits:
    """None where there is no limit."""

    texts_per_day: int = TEXTS_PER_DAY
    tokens_per_day: int | None = None
    cost_per_month: float | None = None
    price_per_million_tokens: float = 0.0
    """From which the cost of a month is estimated; 0 without such a limit."""

    @property
    def tokens_per_month(self) -> int | None:
        """The tokens that cost as much as a month may cost."""
        if self.cost_per_month is None or self.price_per_million_tokens <= 0:
            return None
        return int(min(self.cost_per_month / self.price_per_million_tokens * MILLION, MOST))

    def refuse_if_too_small(self, max_text_bytes: int) -> None:
        """Raises SourceRefused where the longest text of the model could never be sent: its row would always wait."""
        longest = max_text_bytes // BYTES_PER_TOKEN
        for name, limit, tokens in (
            ("tokensPerDay", self.tokens_per_day, self.tokens_per_day),
            ("estimatedCostPerMonth", self.cost_per_month, self.tokens_per_month),
        ):
            if tokens is not None and tokens < longest:
                raise SourceRefused(
                    "LimitTooSmall",
                    f"spec.limits.{name} is {limit:g}, which allows {tokens} tokens, and one text of this model may have "
                    f"{longest}: raise it so that it allows at least {longest} tokens",
                )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Reached:
    """A limit because of which a text may not be sent."""

    reason: str
    message: str
    of_the_month: bool = False
    """It ends with the month, and not with the day."""

    def as_error(self) -> LimitReached:
        return LimitReached(self.message, reason=self.reason, of_the_month=self.of_the_month)


@dataclass(frozen=True)
class Granted:
    """How many of the texts that were counted may be sent: the first ones."""

    texts: int
    reached: Reached | None = None
    """The limit because of which the next text may not be sent; None if all may be."""


def reached(limits: Limits, sent: Sent, *, next_tokens: int) -> Reached | None:
    """Why a text of so many tokens may not be sent after so much was sent; the limit that ends last, if several are reached."""
    per_month = limits.tokens_per_month
    if per_month is not None and sent.tokens_of_month + next_tokens > per_month:
        return _cost_reached(limits, sent)
    if limits.tokens_per_day is not None and sent.tokens + next_tokens > limits.tokens_per_day:
        said = f"spec.limits.tokensPerDay is {limits.tokens_per_day}, and {sent.tokens} tokens were sent today (UTC)"
        return Reached("TokenLimitReached", f"{said}: {UNTIL_MIDNIGHT}")
    if sent.texts >= limits.texts_per_day:
        said = f"spec.limits.textsPerDay is {limits.texts_per_day}, and {sent.texts} texts were sent today (UTC)"
        return Reached("DayLimitReached", f"{said}: {UNTIL_MIDNIGHT}")
    return None


def _cost_reached(limits: Limits, sent: Sent) -> Reached:
    cost = cost_of(sent.tokens_of_month, limits.price_per_million_tokens)
    said = (
        f"spec.limits.estimatedCostPerMonth is {limits.cost_per_month:g}, and the {sent.tokens_of_month} tokens of this month "
        f"cost about {cost:.4f}"
    )
    return Reached("CostLimitReached", f"{said}: {UNTIL_NEXT_MONTH}", of_the_month=True)
