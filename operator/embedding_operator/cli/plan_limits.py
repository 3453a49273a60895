"""Decides what `embedding-operator plan` says about limits: those of the source (spec.limits), and the rate limits. Pure.

Called by plan_lines.py.
"""

import math
from collections.abc import Sequence

from embedding_operator.cli.plan_sizes import money
from embedding_operator.cli.plan_values import Line, PlanFacts
from embedding_operator.lifecycle.backfill_status import about
from embedding_worker.limits import Limits, cost_of
from embedding_worker.providers.rate_limits import pace


def limits(facts: PlanFacts) -> list[Line]:
    """A line for each limit that is set, with the time that the texts need because of it."""
    if not facts.rows.texts:
        return []
    return [*_of_the_source(facts), *_of_the_rate(facts)]


def _of_the_source(facts: PlanFacts) -> list[Line]:
    rows, sent, spec = facts.rows, facts.sent, facts.source.spec
    most = spec.limits_in_force
    lines = [Line("spec.limits.textsPerDay", _periods(most.texts_per_day, rows.texts, sent.texts, "day"))]
    if most.tokens_per_day is not None:
        lines.append(Line("spec.limits.tokensPerDay", _periods(most.tokens_per_day, rows.tokens, sent.tokens, "day")))
    if (per_month := spec.limits.estimated_cost_per_month) is not None:
        lines.append(Line("spec.limits.estimatedCostPerMonth", _months(facts, per_month)))
    return lines


def _months(facts: PlanFacts, per_month: float) -> str:
    price = facts.price_per_million_tokens
    if price is None:
        return f"{per_month:g}: no price is known, so the source would be refused; see the line cost"
    most = Limits(cost_per_month=per_month, price_per_million_tokens=price).tokens_per_month
    if most is None:
        return f"{per_month:g}: enough, because the price is 0"
    spent = cost_of(facts.sent.tokens_of_month, price)
    return f"{per_month:g}, of which {money(spent)} is used" + _periods(
        most, facts.rows.tokens, facts.sent.tokens_of_month, "month"
    ).removeprefix(str(most))


def _periods(limit: int, needed: int, used: int, period: str) -> str:
    """The limit, and how many days or months later than now the last texts are sent because of it."""
    later = needed - max(0, limit - used)
    if later <= 0:
        return f"{limit}: enough for {'today' if period == 'day' else 'this month'} (UTC)"
    number = math.ceil(later / limit) if limit else math.inf
    return f"{limit}: the last texts are sent {number} {period}{'s' if number > 1 else ''} later (UTC), unless you raise it"


def _of_the_rate(facts: PlanFacts) -> Sequence[Line]:
    rows, rates = facts.rows, facts.provider.limits
    needed = {
        "requests": (math.ceil(rows.texts / facts.provider.texts_a_call), rates.requests),
        "texts": (rows.texts, rates.texts),
        "tokens": (rows.tokens, rates.tokens),
    }
    return [
        Line(f"{kind} a minute", f"{limit}: at least {about(amount / per_s)} for {amount} {kind}")
        for kind, (amount, limit) in needed.items()
        if (per_s := pace(limit))
    ]
