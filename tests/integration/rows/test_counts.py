"""How many rows there are and how many are due: exact for few, estimated for many."""

from datetime import UTC, datetime, timedelta

import pytest

from embedding_worker.rows import statements
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "COUNTED_EXACTLY", 10)


def add(application: Application, count: int) -> None:
    application.run("INSERT INTO businesses (name) SELECT 'name ' || i FROM generate_series(1, %s) i", count)


async def test_few_rows_are_counted_exactly(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    add(businesses, 7)
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id < 4")  # a second mark is no second row
    counts = await keeper.store.counts()
    assert (counts.total, counts.due, counts.marks, counts.estimated) == (7, 7, 10, False)
    await keeper.keep()
    counts = await keeper.store.counts()
    assert (counts.total, counts.due, counts.marks, counts.oldest_due_since, counts.estimated) == (7, 0, 0, None, False)


async def test_what_has_a_dead_letter_is_due_and_not_alive(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    add(businesses, 3)
    counts = await keeper.store.counts(dead_letters=["1", "3"])
    assert (counts.due, counts.due_without_dead_letter) == (3, True)
    counts = await keeper.store.counts(dead_letters=["1", "2", "3"])
    assert (counts.due, counts.due_without_dead_letter) == (3, False)
    await keeper.keep()
    assert not (await keeper.store.counts()).due_without_dead_letter


async def test_an_empty_table_counts_nothing(businesses: Application, keep: Keep) -> None:
    counts = await (await keep())[0].store.counts()
    assert (counts.total, counts.due, counts.oldest_due_since, counts.estimated) == (0, 0, None, False)


async def test_the_counts_say_since_when_the_oldest_row_is_due(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    add(businesses, 2)
    businesses.run(f"UPDATE {keeper.statements.marks} SET since = '2024-02-29 12:00+00' WHERE id = '1'")
    counts = await keeper.store.counts()
    assert counts.oldest_due_since == datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert counts.oldest_due_since.utcoffset() == timedelta(0)
    without = await keeper.store.counts(dead_letters=["1"])
    assert without.oldest_due_since is not None
    assert without.oldest_due_since.year >= 2026
    assert (await keeper.store.counts(dead_letters=["1", "2"])).oldest_due_since is None


@pytest.mark.usefixtures("few")
async def test_exactly_as_many_as_are_counted_are_no_estimate(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    add(businesses, 10)
    counts = await keeper.store.counts()
    assert (counts.total, counts.due, counts.estimated) == (10, 10, False)


@pytest.mark.usefixtures("few")
async def test_many_rows_are_estimated_as_the_planner_does(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    add(businesses, 300)
    businesses.run(f"ANALYZE businesses; ANALYZE {keeper.statements.marks}")
    counts = await keeper.store.counts()
    assert (counts.total, counts.due, counts.estimated) == (300, 300, True)


@pytest.mark.usefixtures("few")
async def test_what_was_never_analyzed_is_at_least_what_was_seen(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    businesses.run("ALTER TABLE businesses SET (autovacuum_enabled = off)")
    businesses.run(f"ALTER TABLE {keeper.statements.marks} SET (autovacuum_enabled = off)")
    add(businesses, 300)
    counts = await keeper.store.counts()
    assert (counts.total, counts.due, counts.estimated) == (11, 11, True)


@pytest.mark.usefixtures("few")
async def test_the_partitions_of_a_table_are_added_up(application: Application, keep: Keep) -> None:
    application.run(
        "CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding vector(3)) PARTITION BY HASH (id)"
    )
    for n in range(3):
        application.run(f"CREATE TABLE part_{n} PARTITION OF businesses FOR VALUES WITH (modulus 3, remainder {n})")
    keeper, _ = await keep()
    application.run("INSERT INTO businesses SELECT i, 'name' FROM generate_series(1, 300) i")
    application.run("ANALYZE businesses")
    assert (await keeper.store.counts()).total == 300
