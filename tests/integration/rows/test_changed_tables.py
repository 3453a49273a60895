"""What the set-up has found out about a table is no longer true, and the watch has not noticed it yet: no mark is lost."""

import pytest

from embedding_worker.errors import TableRefused
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, vector_write
from tests.support.owned_table import OwnedTable


async def test_marks_of_ids_that_another_type_makes_possible_are_kept(application: Application, keep: Keep) -> None:
    application.run("CREATE TABLE businesses (id integer PRIMARY KEY, name text, embedding vector(3))")
    keeper, oracle = await keep()
    application.run("ALTER TABLE businesses ALTER COLUMN id TYPE bigint")
    application.run("INSERT INTO businesses VALUES (5000000000, 'one')")
    with pytest.raises(TableRefused, match="set up again"):
        await keeper.store.clear([row.id for row in await keeper.sweep()])
    assert oracle.marks() == ["5000000000"]
    keeper, oracle = await keep()
    assert await keeper.keep() == 1
    assert oracle.wrong() == []


async def test_a_neighbour_with_the_same_id_gets_no_vector(application: Application, keep: Keep) -> None:
    application.run("CREATE TABLE businesses (id bigint PRIMARY KEY, lang text, name text, embedding vector(3))")
    keeper, _ = await keep()
    application.run("ALTER TABLE businesses DROP CONSTRAINT businesses_pkey, ADD PRIMARY KEY (id, lang)")
    application.run("INSERT INTO businesses VALUES (1, 'en', 'one'), (1, 'de', 'eins')")
    assert await keeper.write([vector_write("1", "eins")]) == set()
    assert application.run("SELECT count(embedding) FROM businesses") == [(0,)]


async def test_the_states_of_many_rows_that_are_gone_are_deleted_in_pieces(businesses: Application, keep: Keep) -> None:
    keeper, oracle = await keep()
    state = keeper.statements.state
    businesses.run(
        f"INSERT INTO {state} SELECT i, 'h', 'f', now() - interval '1 hour' FROM generate_series(1, 12000) i"
    )
    assert await keeper.audit() == 0
    assert oracle.states() == {}


async def test_a_policy_that_is_dropped_hides_no_row_as_deleted(owned: OwnedTable) -> None:
    owned.admin.run("ALTER TABLE businesses ENABLE ROW LEVEL SECURITY")
    owned.admin.run("CREATE POLICY everything ON businesses USING (true)")
    async with owned.rows() as rows:
        keeper = await Keeper.prepare(rows, owned.config)
        before = owned.oracle.marks()
        owned.admin.run("INSERT INTO businesses (id, name) VALUES (4711, 'one')")
        owned.admin.run("DROP POLICY everything ON businesses")
        for work in (keeper.sweep(), keeper.audit()):
            with pytest.raises(TableRefused, match="set up again"):
                await work
    assert owned.oracle.marks() == [*before, "4711"]
