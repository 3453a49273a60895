"""Texts up to 11 MB: pages that are too large for the statement timeout shrink, and only the beginning of a text is read."""

import hashlib
from collections.abc import Callable

import pytest

from embedding_worker.rows import table_access
from embedding_worker.rows.records import VectorWrite
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, fake_vector

ROWS = 120
KILOBYTES = 408
TIMEOUT_S = 0.4
"""All rows of a page of 120 take about 2 s, ten of them 0.2 s."""
MEGABYTES = 11
LONG = 11_534_336
BEGINNING = 1_000


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> Keeper:
    keeper, _ = await keep(text="name")
    return keeper


@pytest.fixture
def long_texts(businesses: Application, kept: Keeper) -> Keeper:
    """Many rows of 408 KB. No trigger has seen them."""
    businesses.run("ALTER TABLE businesses ALTER COLUMN name SET STORAGE EXTERNAL")
    businesses.run(
        "SET session_replication_role = replica; ALTER TABLE businesses DISABLE TRIGGER USER; INSERT INTO businesses (name) "
        f"SELECT i || repeat('x', {KILOBYTES * 1024}) FROM generate_series(1, {ROWS}) i"
    )
    return kept


def count_statements(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The number of transactions from now on."""
    begun: list[None] = []
    transaction = type(keeper.database).transaction

    def counted(*arguments: object, **settings: object) -> object:
        begun.append(None)
        return transaction(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(type(keeper.database), "transaction", counted)
    return lambda: len(begun)


async def test_a_page_that_takes_too_long_shrinks_and_the_audit_goes_through_the_table(
    long_texts: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_access, "READ_TIMEOUT_S", TIMEOUT_S)
    statements = count_statements(long_texts, monkeypatch)
    assert await long_texts.audit(page=2_000) == ROWS
    assert statements() < ROWS


async def test_a_sweep_of_more_text_than_fits_into_the_timeout_finds_every_row(
    long_texts: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await long_texts.audit(page=10)
    monkeypatch.setattr(table_access, "READ_TIMEOUT_S", TIMEOUT_S)
    due = await long_texts.sweep(limit=ROWS)
    assert len(due) == ROWS
    assert all(row.content_hash and not row.text_fails for row in due)
    present = await long_texts.store.read([row.id for row in due], characters=BEGINNING)
    assert {len(row.text) for row in present.values()} == {BEGINNING}
    assert not any(row.failure for row in present.values())


async def test_what_a_change_would_embed_is_counted_although_no_large_page_fits_into_the_timeout(
    long_texts: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_access, "READ_TIMEOUT_S", TIMEOUT_S)
    statements = count_statements(long_texts, monkeypatch)
    rows, size = await long_texts.store.would_embed()
    assert rows == ROWS
    assert size == sum(len(str(n)) + KILOBYTES * 1024 for n in range(1, ROWS + 1))
    assert statements() < ROWS


@pytest.mark.parametrize(
    ("sql", "text", "blank"),
    [
        (f"repeat('x', {LONG})", "x" * LONG, False),
        (f"repeat('\u00e9', {LONG // 2})", "\u00e9" * (LONG // 2), False),
        (f"repeat(' ', {LONG})", " " * LONG, True),
        (f"repeat(E' \\n\\t', {LONG // 3}) || 'x'", " \n\t" * (LONG // 3) + "x", False),
        (f"'x' || repeat(' ', {LONG})", "x" + " " * LONG, False),
        (f"repeat(' ', {LONG}) || U&'\\00A0'", " " * LONG + "\u00a0", False),
    ],
    ids=["letters", "two bytes each", "spaces", "a letter at the end", "a letter at the beginning", "no-break space"],
)
async def test_a_text_of_11_megabytes_is_read_in_part_and_known_by_its_whole(
    businesses: Application, kept: Keeper, sql: str, text: str, blank: bool
) -> None:
    businesses.run(f"INSERT INTO businesses (name) VALUES ({sql})")
    content_hash = hashlib.sha256(text.encode()).hexdigest()
    (due,) = await kept.sweep()
    assert (due.content_hash, due.blank) == (content_hash, blank)
    (row,) = (await kept.store.read(["1"], characters=BEGINNING)).values()
    assert (row.content_hash, row.blank, row.text) == (content_hash, blank, text[:BEGINNING])
    assert row.text_bytes == len(text.encode())
    await kept.write([VectorWrite("1", content_hash, None if blank else fake_vector(text))])
    assert (await kept.audit(), await kept.sweep()) == (0, [])


async def test_one_character_at_the_end_of_11_megabytes_makes_the_row_due(
    businesses: Application, kept: Keeper
) -> None:
    businesses.run(f"INSERT INTO businesses (name) VALUES (repeat('x', {LONG}))")
    assert await kept.keep() == 1
    businesses.run("ALTER TABLE businesses DISABLE TRIGGER USER; UPDATE businesses SET name = left(name, -1) || 'y'")
    assert (await kept.audit(), await kept.keep()) == (1, 1)
