"""A vector is only ever written onto the text that it was made of, whatever happens between reading and writing."""

import asyncio
import time

import pytest

from tests.integration.rows.conftest import Keep
from tests.support.gate import GATED, closed_gate, wait_for_statement_at_gate
from tests.support.kept_rows import Application, Keeper, Oracle, run, vector_write


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    """Businesses 1 to 3, due, with the names one, two and three."""
    keeper, oracle = await keep(text="name")
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two'), ('three')")
    return keeper, oracle


ALL = [vector_write("1", "one"), vector_write("2", "two"), vector_write("3", "three")]


@pytest.mark.parametrize(
    ("meanwhile", "others"),
    [
        ("UPDATE businesses SET name = 'edited' WHERE id = 2", {"1", "3"}),
        ("UPDATE businesses SET name = 'two ' WHERE id = 2", {"1", "3"}),
        ("UPDATE businesses SET name = NULL WHERE id = 2", {"1", "3"}),
        ("DELETE FROM businesses WHERE id = 2", {"1", "3"}),
        ("DELETE FROM businesses WHERE id = 2; INSERT INTO businesses VALUES (2, 'reinserted')", {"1", "3"}),
        ("UPDATE businesses SET id = 9 WHERE id = 2", {"1", "3"}),
        ("TRUNCATE businesses", set()),
        ("TRUNCATE businesses; INSERT INTO businesses VALUES (2, 'after it')", set()),
        (
            "UPDATE businesses SET id = -id WHERE id IN (1, 2); UPDATE businesses SET id = 3 + id WHERE id < 0",
            {"3"},
        ),  # 1 and 2 have changed places
    ],
)
async def test_a_row_that_changed_since_it_was_read_is_not_written_and_stays_due(
    businesses: Application, kept: tuple[Keeper, Oracle], meanwhile: str, others: set[str]
) -> None:
    keeper, oracle = kept
    assert len(await keeper.read(["1", "2", "3"])) == 3
    businesses.run(meanwhile)
    assert await keeper.write(ALL) == others
    present = oracle.vectors()
    assert {row_id for row_id, (_, vector) in present.items() if vector is not None} == others
    assert set(oracle.wrong()) == set(present) - others
    assert set(oracle.wrong()) <= set(oracle.marks())
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_row_whose_text_came_back_is_written(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 2")
    businesses.run("UPDATE businesses SET name = 'two', phone = '+1' WHERE id = 2")
    assert await keeper.write(ALL) == {"1", "2", "3"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_an_old_vector_of_the_row_is_no_excuse(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    """Deleted and inserted again with the old vector and another text, as a restored backup does."""
    keeper, oracle = kept
    await keeper.keep()
    businesses.run(
        "WITH gone AS (DELETE FROM businesses WHERE id = 2 RETURNING *) "
        "SELECT set_config('test.vector', embedding::text, false) FROM gone; "
        "INSERT INTO businesses VALUES (2, 'another', NULL, NULL, current_setting('test.vector')::vector)"
    )
    assert oracle.wrong() == ["2"]
    assert await keeper.keep() == 1
    assert oracle.wrong() == []


@pytest.mark.parametrize(
    "merge",
    [
        # Business 1 takes the place of business 3, with its name: one of the two was listed twice.
        "DELETE FROM businesses WHERE id = 3; UPDATE businesses SET id = 3, name = 'three' WHERE id = 1",
        "UPDATE businesses SET name = 'three' WHERE id = 1; DELETE FROM businesses WHERE id = 3; "
        "UPDATE businesses SET id = 3 WHERE id = 1",
    ],
)
async def test_a_row_that_takes_the_place_and_the_text_of_another_does_not_keep_its_own_vector(
    businesses: Application, kept: tuple[Keeper, Oracle], merge: str
) -> None:
    """The book-keeping of its new id knows that very text; the vector that came along is of another one."""
    keeper, oracle = kept
    await keeper.keep()
    businesses.run(merge)
    assert oracle.wrong() == ["3"]
    await keeper.store.clear(["1", "3"])
    assert [row.up_to_date for row in (await keeper.read(["3"])).values()] == [False]
    assert await keeper.keep() == 1
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert [row.up_to_date for row in (await keeper.read(["3"])).values()] == [True]


async def test_a_locked_row_is_left_out_and_written_once_the_lock_is_gone(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    with businesses.transaction() as connection:
        run(connection, "UPDATE businesses SET phone = '+1' WHERE id = 2")
        assert await keeper.write(ALL) == {"1", "3"}
    assert oracle.marks() == ["2"]
    assert await keeper.write(ALL[1:2]) == {"2"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


@pytest.mark.parametrize(
    ("meanwhile", "written", "marks"),
    [
        ("UPDATE businesses SET name = 'edited' WHERE id = 2", {"1", "3"}, ["2", "2"]),
        ("UPDATE businesses SET phone = '+1' WHERE id = 2", {"1", "2", "3"}, []),
        ("DELETE FROM businesses WHERE id = 2", {"1", "3"}, ["2"]),
        (
            "DELETE FROM businesses WHERE id = 2; INSERT INTO businesses VALUES (2, 'two')",
            {"1", "3"},
            ["2", "2"],
        ),
    ],
)
async def test_an_edit_that_commits_while_the_write_looks_for_its_rows_is_seen(
    businesses: Application, keep: Keep, meanwhile: str, written: set[str], marks: list[str]
) -> None:
    """The write's snapshot has the old text; what counts is the text under the row's lock."""
    businesses.run(GATED)
    keeper, oracle = await keep(text="gated(name)")
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two'), ('three')")
    fingerprint = keeper.statements.config.fingerprint
    with closed_gate(businesses) as open_gate:
        async with keeper.database.transaction(
            search_path=["public"], lock_timeout="60s", statement_timeout_s=60
        ) as transaction:
            writing = asyncio.create_task(
                transaction.fetch(
                    keeper.statements.write,
                    [row.id for row in ALL],
                    [row.content_hash for row in ALL],
                    [str(list(row.vector or ())) for row in ALL],
                    fingerprint,
                )
            )
            await wait_for_statement_at_gate(businesses)
            businesses.run(meanwhile)
            open_gate()
            assert {row[0] for row in await writing} == written
    assert oracle.marks() == marks
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_write_says_how_long_the_server_has_needed_without_the_time_until_its_vectors_have_arrived(
    kept: tuple[Keeper, Oracle],
) -> None:
    began = time.monotonic()
    result = await kept[0].store.write(ALL)
    took_s = time.monotonic() - began
    assert result.took_s is not None
    assert 0 < result.took_s < took_s
