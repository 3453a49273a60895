"""A row without a text has no vector, costs nothing, and is not touched where it has none already."""

import pytest

from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle, vector_write

VERSION = "SELECT xmin::text FROM businesses WHERE id = 1"


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    return await keep(text="name")


@pytest.mark.parametrize("name", ["", " ", " \t\n\r\f\v ", None])
async def test_a_new_row_without_a_text_is_fresh_as_it_is(
    businesses: Application, kept: tuple[Keeper, Oracle], name: str | None
) -> None:
    keeper, oracle = kept
    businesses.run("INSERT INTO businesses (name) VALUES (%s)", name)
    before = businesses.run(VERSION)
    (row,) = await keeper.sweep()
    assert (row.blank, row.up_to_date, row.gone) == (True, False, False)
    assert await keeper.write([vector_write("1", name or "")]) == {"1"}
    assert businesses.run(VERSION) == before
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert await keeper.audit() == 0


async def test_a_blanked_row_loses_its_vector(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    businesses.run("INSERT INTO businesses (name) VALUES ('one')")
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = ' '")
    assert await keeper.keep() == 1
    assert oracle.vectors() == {"1": (" ", None)}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_row_whose_blank_text_was_blanked_in_another_way_is_recorded_again(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("INSERT INTO businesses (name) VALUES ('')")
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = '  '")
    before = businesses.run(VERSION)
    assert await keeper.keep() == 1
    assert businesses.run(VERSION) == before
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_blank_row_with_a_vector_is_not_up_to_date(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("INSERT INTO businesses (name) VALUES ('')")
    await keeper.keep()
    businesses.run("UPDATE businesses SET embedding = '[1,2,3]'")
    assert await keeper.audit() == 1
    assert await keeper.keep() == 1
    assert oracle.wrong() == []


async def test_a_blank_row_that_gets_a_text_is_embedded(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    businesses.run("INSERT INTO businesses (name) VALUES ('')")
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = 'one'")
    assert await keeper.keep() == 1
    assert oracle.wrong() == []


async def test_blank_rows_and_others_are_written_by_one_statement(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), (''), ('three'), (NULL), ('five')")
    businesses.run("UPDATE businesses SET embedding = '[1,2,3]' WHERE id = 4")
    given = [vector_write(str(n), text) for n, text in enumerate(["one", "", "three", "", "five"], 1)]
    assert await keeper.write(given) == {"1", "2", "3", "4", "5"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


@pytest.mark.parametrize("name", ["one", "", None])
async def test_a_row_that_is_given_twice_is_written_once(
    businesses: Application, kept: tuple[Keeper, Oracle], name: str | None
) -> None:
    keeper, oracle = kept
    businesses.run("INSERT INTO businesses (name) VALUES (%s), ('two')", name)
    twice = vector_write("1", name or "")
    assert await keeper.write([twice, vector_write("2", "two"), twice]) == {"1", "2"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])
