"""The gauges of what a source has sent, and of its limits. Part of source_metrics.py."""

from collections.abc import Callable
from dataclasses import dataclass

from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_worker.limits import cost_of
from embedding_worker.rows.records import Used

Value = Callable[[SourceFacts], float | None]
TEXTS_CUT = (
    "texts_cut_total",
    "Texts that were longer than the model accepts, and of which only the beginning was embedded, by all processes",
)


@dataclass(frozen=True)
class SourceGauge:
    name: str
    description: str
    value: Value
    """None: there is no such sample."""


def _sent(value: Callable[[Used], float]) -> Value:
    return lambda facts: None if facts.used is None else value(facts.used)


def _cost(tokens: Callable[[Used], int]) -> Value:
    return lambda facts: None if facts.used is None else cost_of(tokens(facts.used), facts.price_per_million_tokens)


USAGE_GAUGES = (
    SourceGauge("texts_today", "Texts that were sent today (UTC)", _sent(lambda used: used.texts)),
    SourceGauge(
        "tokens_today",
        "Tokens of the texts that were sent today, as far as the provider reports them, and else estimated",
        _sent(lambda used: used.tokens),
    ),
    SourceGauge(
        "reported_tokens_today",
        "Those of tokens_today that the provider has reported",
        _sent(lambda used: used.reported),
    ),
    SourceGauge(
        "estimated_cost_today",
        "Estimated cost of the tokens of today, in the currency of the price that is set",
        _cost(lambda used: used.tokens),
    ),
    SourceGauge(
        "estimated_cost_this_month",
        "Estimated cost of the tokens of the calendar month (UTC), in the currency of the price that is set",
        _cost(lambda used: used.month_tokens),
    ),
    SourceGauge(
        "price_per_million_tokens",
        "The price from which costs are estimated; 0 if none is set",
        lambda facts: facts.price_per_million_tokens,
    ),
    SourceGauge("texts_per_day_limit", "Texts that may be sent in a day", lambda facts: facts.limits.texts_per_day),
    SourceGauge(
        "tokens_per_day_limit",
        "Tokens that may be sent in a day, where spec.limits says so",
        lambda facts: facts.limits.tokens_per_day,
    ),
    SourceGauge(
        "estimated_cost_per_month_limit",
        "What the tokens of a month may cost, where spec.limits says so",
        lambda facts: facts.limits.cost_per_month,
    ),
)
