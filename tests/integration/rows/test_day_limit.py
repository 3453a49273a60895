"""How many texts a day a source may send, counted where every replica sees it; and what a change would cost."""

import asyncio

import pytest

from embedding_worker.limits import Granted, Limits, Reached
from embedding_worker.rows.records import UsageNote
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle

YESTERDAY = "UPDATE embedding_operator.usage SET day = day - 1"


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    return await keep(text="name")


async def acquired(keeper: Keeper, texts: int, *, most_a_day: int) -> int:
    return (await acquired_within(keeper, texts, Limits(most_a_day))).texts


async def acquired_within(keeper: Keeper, texts: int, limits: Limits) -> Granted:
    """Of texts of ten tokens each."""
    return await keeper.store.acquire_texts(range(10, texts * 10 + 1, 10), limits)


async def test_as_many_texts_are_granted_as_the_day_still_allows(kept: tuple[Keeper, Oracle]) -> None:
    keeper, _ = kept
    assert [await acquired(keeper, 4, most_a_day=10) for _ in range(4)] == [4, 4, 2, 0]
    used = await keeper.store.used_today()
    assert used is not None
    assert (used.texts, used.tokens) == (10, 100)


async def test_a_limit_that_was_lowered_revokes_nothing(kept: tuple[Keeper, Oracle]) -> None:
    keeper, _ = kept
    await acquired(keeper, 8, most_a_day=10)
    assert await acquired(keeper, 1, most_a_day=5) == 0
    assert await acquired(keeper, 4, most_a_day=20) == 4


async def test_the_next_day_begins_at_nothing(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, _ = kept
    assert await keeper.store.used_today() is None
    await acquired(keeper, 10, most_a_day=10)
    businesses.run(YESTERDAY)
    used = await keeper.store.used_today()
    assert used is not None
    assert (used.texts, used.tokens) == (0, 0)
    assert await acquired(keeper, 4, most_a_day=10) == 4


FIRST_OF_MONTH = "date_trunc('month', now() AT TIME ZONE 'UTC')"
ADD_TOKENS = """
INSERT INTO embedding_operator.usage AS u (bookkeeping, day, tokens)
SELECT DISTINCT bookkeeping, {day}, {tokens} FROM embedding_operator.usage
ON CONFLICT (bookkeeping, day) DO UPDATE SET tokens = u.tokens + excluded.tokens"""
MONTH = Limits(100, cost_per_month=0.003, price_per_million_tokens=10.0)
"""300 tokens."""


@pytest.mark.parametrize(
    ("limits", "granted", "reason"),
    [
        (Limits(100, tokens_per_day=200), 20, None),
        (Limits(100, tokens_per_day=199), 19, "TokenLimitReached"),
        (Limits(19, tokens_per_day=200), 19, "DayLimitReached"),
        (Limits(100, tokens_per_day=5), 0, "TokenLimitReached"),
        (Limits(100, 5_000, cost_per_month=0.00199, price_per_million_tokens=10.0), 19, "CostLimitReached"),
        (Limits(5, 50, cost_per_month=0.00005, price_per_million_tokens=1.0), 5, "CostLimitReached"),
        (Limits(100, 5_000, cost_per_month=0.002, price_per_million_tokens=0.0), 20, None),
        (Limits(2**62, 2**62, cost_per_month=1e9, price_per_million_tokens=1e-300), 20, None),
    ],
)
async def test_texts_are_granted_while_every_limit_allows_them(
    kept: tuple[Keeper, Oracle], limits: Limits, granted: int, reason: str | None
) -> None:
    found = await acquired_within(kept[0], 20, limits)
    assert (found.texts, found.reached and found.reached.reason) == (granted, reason)
    used = await kept[0].store.used_today()
    assert (used.texts, used.tokens) == (granted, 10 * granted) if used else granted == 0


async def test_the_month_is_that_of_the_calendar_with_all_of_its_days(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    await acquired(keeper, 4, most_a_day=10)
    businesses.run(ADD_TOKENS.format(day=FIRST_OF_MONTH, tokens=200))
    businesses.run(ADD_TOKENS.format(day=f"{FIRST_OF_MONTH} - interval '1 day'", tokens=90_000))
    found = await acquired_within(keeper, 20, MONTH)
    assert found == Granted(
        6,
        Reached(
            "CostLimitReached",
            "spec.limits.estimatedCostPerMonth is 0.003, and the 300 tokens of this month cost about 0.0030: "
            "raise it, or wait until the next month begins (UTC)",
            of_the_month=True,
        ),
    )
    used = await keeper.store.used_today()
    assert used is not None
    assert used.month_tokens == 300


async def test_replicas_that_acquire_at_once_never_get_more_tokens_than_a_limit(kept: tuple[Keeper, Oracle]) -> None:
    keeper, _ = kept
    limits = Limits(1_000, tokens_per_day=505, cost_per_month=0.0052, price_per_million_tokens=10.0)
    granted = await asyncio.gather(*(acquired_within(keeper, 3, limits) for _ in range(30)))
    assert sum(each.texts for each in granted) == 50


async def test_reported_tokens_take_the_place_of_the_estimate_on_the_day_on_which_they_were_counted(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    await acquired(keeper, 10, most_a_day=10)
    notes = [
        UsageNote(1_000.0, more_tokens=-30, reported=20),
        UsageNote(1_000.0, cut=3),
        UsageNote(1_000.0 - 86_400, -1, 1),
    ]
    await keeper.store.record_usage(notes, now=1_001.0)
    used = await keeper.store.used_today()
    assert used is not None
    assert (used.texts, used.tokens, used.reported, used.cut) == (10, 70, 20, 3)
    businesses.run(YESTERDAY)
    await keeper.store.record_usage([UsageNote(500.0, more_tokens=-70, reported=5, cut=1)], now=500.0 + 86_400)
    assert businesses.run("SELECT tokens, tokens_reported, texts_cut FROM embedding_operator.usage") == [(0, 25, 4)]
    later = await keeper.store.used_today()
    assert later is not None
    assert (later.cut, later.cut_ever) == (0, 4)


async def test_two_sources_have_a_limit_each(businesses: Application, keep: Keep, kept: tuple[Keeper, Oracle]) -> None:
    businesses.run("ALTER TABLE businesses ADD COLUMN other real[]")
    another, _ = await keep(embedding_column="other")
    assert await acquired(kept[0], 10, most_a_day=10) == 10
    assert await acquired(another, 10, most_a_day=10) == 10


async def test_replicas_that_acquire_at_once_never_get_more_than_the_limit(kept: tuple[Keeper, Oracle]) -> None:
    keeper, _ = kept
    granted = await asyncio.gather(*(acquired(keeper, 3, most_a_day=50) for _ in range(30)))
    assert sum(granted) == 50
    used = await keeper.store.used_today()
    assert used is not None
    assert used.texts == 50


async def test_what_another_text_would_embed_is_known_before_it_is_in_force(
    businesses: Application, keep: Keep, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('TWO'), ('three'), ('')")
    pages: list[None] = []
    assert await keeper.store.would_embed(lambda: pages.append(None)) == (3, len("oneTWOthree"))
    assert len(pages) == 1
    await keeper.keep()
    assert await keeper.store.would_embed() == (0, 0)
    shouted, _ = await keep(text="upper(name)")
    assert await shouted.store.would_embed() == (2, len("ONETHREE"))
