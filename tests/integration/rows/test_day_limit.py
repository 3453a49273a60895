"""How many texts a day a source may send, counted where every replica sees it; and what a change would cost."""

import asyncio

import pytest

from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle

YESTERDAY = "UPDATE embedding_operator.usage SET day = day - 1"


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    return await keep(text="name")


async def acquired(keeper: Keeper, texts: int, *, most_a_day: int) -> int:
    return await keeper.store.acquire_texts(texts, tokens=texts * 10, most_a_day=most_a_day)


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
    assert await keeper.store.used_today() is None
    assert await acquired(keeper, 4, most_a_day=10) == 4


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
