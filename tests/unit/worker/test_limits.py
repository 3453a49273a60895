"""Which limit of a source is reached, and what is said of it."""

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.limits import Limits, Sent, cost_of, reached

MONTH = Limits(10, tokens_per_day=100, cost_per_month=3.0, price_per_million_tokens=15_000.0)
"""200 tokens a month."""


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (Sent(9, 90, 190), None),
        (Sent(10, 90, 190), "DayLimitReached"),
        (Sent(9, 91, 190), "TokenLimitReached"),
        (Sent(9, 90, 191), "CostLimitReached"),
        (Sent(10, 91, 190), "TokenLimitReached"),
        (Sent(10, 100, 200), "CostLimitReached"),
    ],
)
def test_a_text_of_ten_tokens_meets_the_limit_that_ends_last(sent: Sent, reason: str | None) -> None:
    found = reached(MONTH, sent, next_tokens=10)
    assert (found and found.reason) == reason
    assert (found is not None and found.of_the_month) == (reason == "CostLimitReached")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (
            Sent(10, 0, 0),
            "spec.limits.textsPerDay is 10, and 10 texts were sent today (UTC): raise it, or wait until midnight UTC",
        ),
        (
            Sent(0, 95, 0),
            "spec.limits.tokensPerDay is 100, and 95 tokens were sent today (UTC): raise it, or wait until midnight UTC",
        ),
        (
            Sent(0, 0, 195),
            "spec.limits.estimatedCostPerMonth is 3, and the 195 tokens of this month cost about 2.9250: "
            "raise it, or wait until the next month begins (UTC)",
        ),
    ],
)
def test_the_message_names_the_limit_what_was_sent_and_the_remedy(sent: Sent, message: str) -> None:
    found = reached(MONTH, sent, next_tokens=10)
    assert found is not None
    assert found.as_error().message == message


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        (Limits(), None),
        (Limits(cost_per_month=3.0), None),
        (Limits(cost_per_month=20.0, price_per_million_tokens=0.15), 133_333_333),
        (Limits(cost_per_month=1e9, price_per_million_tokens=1e-300), 2**62),
    ],
)
def test_a_cost_is_as_many_tokens_as_its_price_gives(limits: Limits, tokens: int | None) -> None:
    assert limits.tokens_per_month == tokens
    assert cost_of(133_333_333, 0.15) == pytest.approx(20.0)


def test_limits_that_allow_the_longest_text_are_accepted() -> None:
    Limits(1, tokens_per_day=100, cost_per_month=1.5, price_per_million_tokens=15_000.0).refuse_if_too_small(302)
    with pytest.raises(SourceRefused, match="raise it so that it allows at least 101 tokens"):
        Limits(1, tokens_per_day=100).refuse_if_too_small(303)
