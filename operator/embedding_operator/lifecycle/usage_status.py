"""Decides what a source's status says of what was sent, and of what its limits still allow. Pure; called by source_status.py."""

from typing import Any

from embedding_worker.limits import Limits, cost_of
from embedding_worker.rows.records import Used


def status(used: Used, limits: Limits, price_per_million_tokens: float) -> dict[str, Any]:
    """The fields `today` and `month`."""
    return {
        "today": _today(used, limits, price_per_million_tokens),
        "month": _month(used, limits, price_per_million_tokens),
    }


def _today(used: Used, limits: Limits, price_per_million_tokens: float) -> dict[str, Any]:
    per_day = limits.tokens_per_day
    return {
        "date": used.day,
        "texts": used.texts,
        "textsLeft": max(0, limits.texts_per_day - used.texts),
        "textsCut": used.cut,
        "tokens": used.tokens,
        "tokensLeft": None if per_day is None else max(0, per_day - used.tokens),
        "tokensReported": used.reported,
        "estimatedCost": cost(used.tokens, price_per_million_tokens),
    }


def _month(used: Used, limits: Limits, price_per_million_tokens: float) -> dict[str, Any]:
    per_month = limits.cost_per_month
    left = None if per_month is None else max(0.0, per_month - cost_of(used.month_tokens, price_per_million_tokens))
    return {
        "month": used.day[: len("2026-03")],
        "tokens": used.month_tokens,
        "estimatedCost": cost(used.month_tokens, price_per_million_tokens),
        "estimatedCostLeft": None if left is None else f"{left:.4f}",
    }


def cost(tokens: int, price_per_million_tokens: float) -> str:
    """An estimate, in the currency of the price: the provider's bill may differ."""
    return f"{cost_of(tokens, price_per_million_tokens):.4f}"
