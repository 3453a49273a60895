"""Ids of every script, sign and length: each row gets its vector, by its trigger or by the audit alone, and its mark goes."""

import random

import pytest

from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle

RANDOM = random.Random(0)  # noqa: S311
IDS = [
    *(
        "",
        " ",
        "  ",
        "\t",
        "\n",
        " a",
        "a ",
        "A",
        "a",
        "a\nb",
        "NULL",
        "null",
        "0",
        "00",
        "007",
        "7",
        "-7",
        "1e3",
        "true",
    ),
    *(
        "'",
        "''",
        '"',
        "\\",
        "\\x00",
        "\\N",
        "$1",
        "%s",
        "%",
        "{}",
        "{a,b}",
        ",",
        ";",
        "--",
        "/* */",
        "a,b",
        "(",
        "ctid",
    ),
    *(
        "Ωmega",
        "Ёлка",
        "עברית",
        "العربية",
        "日本語",
        "한국어",
        "हिन्दी",
        "ไทย",
        "🙂",
        "👨‍👩‍👧",
        "\u00e9",
        "e\u0301",
        "ß",
        "SS",
        "İ",
        "ı",
    ),
    *("\u200f", "\u200b", "\ufeff", "\u00a0", "\U0010ffff", "\x01", "\x7f"),
    *("a" * 1_024, "a" * 1_025, "a" * 2_000, "日" * 800),
    "".join(RANDOM.choices("0123456789abcdef", k=2_000)),
    "".join(RANDOM.choices("abcdefghijklmnopqrstuvwxyz-", k=2_600)),
]

LONG = ["日" * 1_000, "🙂" * 1_025]
"""Of more than 2,600 bytes: PostgreSQL has compressed them for its index. Triggers leave such ids to the audit."""


@pytest.fixture
async def kept(application: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    application.run("CREATE TABLE businesses (id text PRIMARY KEY, name text, embedding vector(3))")
    return await keep(text="name")


def insert_all(application: Application, ids: list[str] = IDS) -> None:
    application.run(
        "INSERT INTO businesses (id, name) SELECT v.id, 'name ' || v.n FROM unnest(%s::text[]) WITH ORDINALITY v(id, n)",
        ids,
    )


async def test_each_row_is_written_once_after_its_insert_and_after_its_edit(
    application: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    insert_all(application)
    assert sorted(row.id for row in await keeper.sweep()) == sorted(IDS)
    assert await keeper.keep() == len(IDS)
    application.run("UPDATE businesses SET name = name || ' new'")
    assert await keeper.keep() == len(IDS)
    assert (oracle.wrong(), oracle.marks()) == ([], [])


@pytest.mark.parametrize("page", [1, 7, 100])
async def test_the_audit_reads_each_row_in_pages_of_any_size(
    application: Application, kept: tuple[Keeper, Oracle], page: int
) -> None:
    keeper, oracle = kept
    application.run("ALTER TABLE businesses DISABLE TRIGGER USER")
    insert_all(application, [*IDS, *LONG])
    assert await keeper.audit(page=page) == len(IDS) + len(LONG)
    assert sorted(oracle.marks()) == sorted([*IDS, *LONG])
    assert await keeper.keep() == len(IDS) + len(LONG)
    assert (await keeper.audit(page=page), oracle.wrong(), oracle.marks()) == (0, [], [])


async def test_a_row_with_any_id_can_be_left_out_and_superseded(
    application: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    insert_all(application)
    assert await keeper.sweep(leave_out=tuple(IDS)) == []
    assert {mark.id for mark in await keeper.store.newer_marks(dict.fromkeys(IDS, 0))} == set(IDS)
    assert not (await keeper.store.counts(dead_letters=IDS)).due_without_dead_letter


async def test_the_marks_and_the_book_keeping_of_deleted_rows_go(
    application: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    insert_all(application)
    await keeper.keep()
    application.run("UPDATE businesses SET name = 'new'; DELETE FROM businesses")
    application.run(f"UPDATE {keeper.statements.state} SET embedded_at = now() - interval '2 minutes'")
    assert await keeper.keep() == 0
    await keeper.audit(page=10)
    assert (oracle.marks(), oracle.states()) == ([], {})


async def test_an_id_that_changes_into_any_other_is_written_under_its_new_name(
    application: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    application.run("INSERT INTO businesses (id, name) VALUES ('first', 'one')")
    await keeper.keep()
    for row_id in IDS:
        application.run("UPDATE businesses SET id = %s", row_id)
        assert await keeper.keep() == 1
    assert (oracle.wrong(), oracle.marks()) == ([], [])


@pytest.mark.parametrize(("first", "last"), [(-500, 500), (-1_500, -500), (1, 1_001)])
async def test_negative_ids_need_no_more_pages_than_positive_ones(
    businesses: Application, keep: Keep, first: int, last: int
) -> None:
    keeper, _ = await keep()
    businesses.run(
        "INSERT INTO businesses (id, name) SELECT i, 'name' FROM generate_series(%s::int, %s::int) i", first, last
    )
    ends: list[str | None] = []
    after = None
    while not ends or after is not None:
        after = (await keeper.store.audit(after_id=after, limit=100)).last_id
        ends.append(after)
    assert ends == [*(str(first + 99 + 100 * n) for n in range(10)), None]
    previewed: list[str | None] = []
    while not previewed or after is not None:
        page = await keeper.store.preview_due(after_id=after, limit=100)
        after = page.last_id
        previewed.append(after)
    assert previewed == ends
