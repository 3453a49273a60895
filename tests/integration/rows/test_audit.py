"""The audit finds whatever no trigger saw, and forgets what is gone; nothing depends on the trigger."""

import asyncio
import dataclasses

import pytest

from embedding_worker.rows.database import Database
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.deadline import eventually
from tests.support.kept_rows import MODEL, Application, Keeper, Oracle, run, source_config


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    """Businesses 1 to 5, fresh; the last one without a text."""
    keeper, oracle = await keep(text="name")
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two'), ('three'), ('four'), ('')")
    await keeper.keep()
    return keeper, oracle


async def test_where_every_row_is_up_to_date_nothing_is_marked(kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    assert await keeper.audit() == 0
    assert oracle.marks() == []


@pytest.mark.parametrize(
    ("harm", "marked"),
    [
        ("UPDATE businesses SET embedding = NULL WHERE id = 2", ["2"]),
        ("UPDATE businesses SET embedding = '[1,2,3]' WHERE id = 5", ["5"]),
        ("DELETE FROM {state} WHERE id IN (1, 5)", ["1", "5"]),
        ("TRUNCATE {state}", ["1", "2", "3", "4", "5"]),
        ("UPDATE {state} SET content_hash = repeat('0', 64) WHERE id = 3", ["3"]),
        ("UPDATE {state} SET fingerprint = 'fake@2' WHERE id IN (3, 5)", ["3", "5"]),
        ("ALTER TABLE businesses DISABLE TRIGGER USER; UPDATE businesses SET name = 'edited' WHERE id = 4", ["4"]),
        ("ALTER TABLE businesses DISABLE TRIGGER USER; INSERT INTO businesses VALUES (6, 'new')", ["6"]),
        ("UPDATE businesses SET name = 'edited' WHERE id = 1; TRUNCATE {due}", ["1"]),
    ],
)
async def test_what_no_trigger_saw_is_found(
    businesses: Application, kept: tuple[Keeper, Oracle], harm: str, marked: list[str]
) -> None:
    keeper, oracle = kept
    businesses.run(harm.format(state=keeper.statements.state, due=keeper.statements.marks))
    assert await keeper.audit(page=2) == len(marked)
    assert oracle.marks() == marked
    assert not any(row.edited for row in await keeper.sweep())
    assert await keeper.keep() == len(marked)
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_row_that_has_a_mark_gets_no_second_one(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = 'edited', embedding = NULL WHERE id = 2")
    assert await keeper.audit() == 0
    assert oracle.marks() == ["2"]


async def test_another_model_marks_every_row_and_another_text_only_those_that_come_out_differently(
    kept: tuple[Keeper, Oracle], keep: Keep
) -> None:
    shouted, _ = await keep(text="CASE WHEN id < 3 THEN upper(name) ELSE name END")
    assert await shouted.audit() == 2
    await shouted.keep()
    other, oracle = await keep(text="name", model=dataclasses.replace(MODEL, name="other"))
    assert await other.audit() == 5
    assert await other.keep() == 5
    assert oracle.wrong() == []


async def test_a_bulk_load_past_the_trigger_is_found(
    businesses: Application, database: GivenDatabase, database_server: DatabaseServer
) -> None:
    """A role that does not own the table can't make its trigger fire always."""
    role, password = database_server.create_role("least")
    businesses.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
    businesses.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO "{role}"')
    async with Database(database.url_for(role, password), max_connections=1) as rows:
        keeper, oracle = await Keeper.prepare(rows, source_config()), Oracle(businesses, source_config())
        with businesses.transaction() as connection:
            run(connection, "SET session_replication_role = replica")
            with connection.cursor().copy("COPY businesses (name) FROM STDIN") as copy:
                for n in range(250):
                    copy.write_row([f"name {n}"])
        assert oracle.marks() == []
        assert await keeper.audit(page=100) == 250
        assert await keeper.keep() == 250
    assert oracle.wrong() == []


async def test_it_goes_through_the_table_page_by_page_and_begins_again(kept: tuple[Keeper, Oracle]) -> None:
    keeper, _ = kept
    seen, after = [], None
    for _ in range(4):
        page = await keeper.store.audit(after_id=after, limit=2)
        seen.append((page.last_id, page.rows))
        after = page.last_id
    assert seen == [("2", 2), ("4", 2), (None, 1), ("2", 2)]


async def test_a_last_page_that_is_full_is_followed_by_an_empty_one(kept: tuple[Keeper, Oracle]) -> None:
    page = await kept[0].store.audit(after_id="0", limit=5)
    assert (page.last_id, page.rows) == ("5", 5)
    page = await kept[0].store.audit(after_id="5", limit=5)
    assert (page.last_id, page.rows) == (None, 0)


async def test_an_empty_table_is_one_empty_page(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    page = await keeper.store.audit(after_id=None, limit=10)
    assert (page.last_id, page.rows, page.marked) == (None, 0, 0)


def grow_old(keeper: Keeper, application: Application) -> None:
    application.run(f"UPDATE {keeper.statements.state} SET embedded_at = now() - interval '2 minutes'")


async def test_book_keeping_of_deleted_rows_goes_after_a_minute(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("DELETE FROM businesses WHERE id IN (1, 4)")
    await keeper.audit(page=2)
    assert set(oracle.states()) == {"1", "2", "3", "4", "5"}
    grow_old(keeper, businesses)
    await keeper.audit(page=2)
    assert set(oracle.states()) == {"2", "3", "5"}


async def test_book_keeping_behind_the_last_row_and_before_the_first_goes_too(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("DELETE FROM businesses WHERE id <> 3")
    grow_old(keeper, businesses)
    await keeper.audit(page=1)
    assert set(oracle.states()) == {"3"}


async def test_the_book_keeping_of_an_emptied_table_goes(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = kept
    businesses.run("TRUNCATE businesses")
    grow_old(keeper, businesses)
    await keeper.audit()
    assert oracle.states() == {}


async def test_a_row_that_was_inserted_again_keeps_its_new_book_keeping(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    """The statement that forgets saw the row gone, then waits; meanwhile the row is back, and embedded."""
    keeper, oracle = kept
    businesses.run("DELETE FROM businesses WHERE id = 2")
    grow_old(keeper, businesses)
    businesses.run(f"UPDATE {keeper.statements.state} SET embedded_at = now() WHERE id <> 2")
    with businesses.transaction() as back:
        run(back, "INSERT INTO businesses VALUES (2, 'reinserted', NULL, NULL, '[1,2,3]')")
        run(back, f"UPDATE {keeper.statements.state} SET content_hash = 'new', embedded_at = now() WHERE id = 2")
        async with keeper.database.transaction(lock_timeout="25s") as transaction:
            forgetting = asyncio.create_task(transaction.fetch(keeper.statements.orphans, None, None, 100))
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%DELETE FROM%'"
            await eventually(lambda: businesses.run(waits), within_s=20, because="the row's book-keeping is locked")
            back.commit()
            await forgetting
    assert oracle.states()["2"][0] == "new"
