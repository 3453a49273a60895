"""While a source runs, its watch notices that the triggers are not in force, and the next set-up repairs them."""

import time
from collections.abc import AsyncIterator

import pytest

from embedding_worker.errors import RowsLocked, SourceRefused
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Claim, Owner
from embedding_worker.rows.pause import pause_triggers, record_resumed
from embedding_worker.rows.schema import prepare
from embedding_worker.rows.store import RowStore
from embedding_worker.rows.watch import BookkeepingWatch
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.kept_rows import run
from tests.support.owned_table import OwnedTable, owned_table

OWNER = Owner("yellow-book", "businesses", "uid-1")


@pytest.fixture
async def rows(owned: OwnedTable) -> AsyncIterator[Database]:
    async with owned.rows() as opened:
        yield opened


async def set_up(rows: Database, owned: OwnedTable) -> tuple[RowStore, BookkeepingWatch]:
    prepared = await prepare(rows, owned.config, Claim(OWNER))
    return RowStore(rows, prepared.statements), BookkeepingWatch(rows, prepared, OWNER)


# What is done to the triggers, by the table's owner or by an administrator.
DAMAGES = {
    "both are dropped": 'DROP TRIGGER "{stem}_ins" ON businesses; DROP TRIGGER "{stem}_upd" ON businesses',
    "one is dropped": 'DROP TRIGGER "{stem}_ins" ON businesses',
    "one is disabled": 'ALTER TABLE businesses DISABLE TRIGGER "{stem}_upd"',
    "all are disabled": "ALTER TABLE businesses DISABLE TRIGGER ALL",
    "one fires for replication only": 'ALTER TABLE businesses ENABLE REPLICA TRIGGER "{stem}_ins"',
    "the function is replaced": (
        'CREATE OR REPLACE FUNCTION embedding_operator."{stem}_mark"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
        "AS 'BEGIN RETURN NULL;END'"
    ),
    "the function is dropped": 'DROP FUNCTION embedding_operator."{stem}_mark"() CASCADE',
    "the function is not callable": 'REVOKE EXECUTE ON FUNCTION embedding_operator."{stem}_mark"() FROM PUBLIC',
    "one has a condition": (
        'CREATE OR REPLACE TRIGGER "{stem}_upd" AFTER UPDATE ON businesses FOR EACH ROW WHEN (false) '
        'EXECUTE FUNCTION embedding_operator."{stem}_mark"()'
    ),
    "one has a list of columns": (
        'CREATE OR REPLACE TRIGGER "{stem}_upd" AFTER UPDATE OF city ON businesses FOR EACH ROW '
        'EXECUTE FUNCTION embedding_operator."{stem}_mark"()'
    ),
    "the table was made again": "DROP TABLE businesses; CREATE TABLE businesses (id bigint PRIMARY KEY, name text, "
    'description text, phone text, embedding vector(3)); GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO "{operator}"',
}


@pytest.mark.parametrize("what", DAMAGES)
async def test_triggers_that_are_not_in_force_are_noticed_and_repaired(
    owned: OwnedTable, rows: Database, what: str
) -> None:
    """What was not recorded meanwhile is found by the audit of the whole table that follows."""
    store, watch = await set_up(rows, owned)
    await store.record_filled()
    assert await watch.triggers_in_force()
    for statement in DAMAGES[what].split("; "):
        owned.admin.run(statement.format(stem=owned.stem, operator=owned.operator))
    assert not await watch.triggers_in_force()
    store, watch = await set_up(rows, owned)
    assert await watch.triggers_in_force()
    assert not await store.is_filled()
    owned.admin.run("INSERT INTO businesses (id, name) VALUES (7, 'new')")
    assert owned.oracle.marks()[-1:] == ["7"]


CHANGES = {
    "another search path": 'ALTER ROLE "{operator}" SET search_path = pg_catalog, public',
    "an id of another type": "ALTER TABLE businesses ALTER COLUMN id TYPE integer",
    "a vector of another type": "ALTER TABLE businesses ALTER COLUMN embedding TYPE real[] USING NULL",
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_table_that_has_changed_is_noticed_and_set_up_again(
    owned: OwnedTable, rows: Database, what: str
) -> None:
    _, watch = await set_up(rows, owned)
    owned.admin.run(CHANGES[what].format(operator=owned.operator))
    assert not await watch.triggers_in_force()
    _, watch = await set_up(rows, owned)
    assert await watch.triggers_in_force()


async def test_a_policy_that_hides_rows_later_is_noticed(owned: OwnedTable, rows: Database) -> None:
    owned.admin.run("ALTER TABLE businesses ENABLE ROW LEVEL SECURITY")
    owned.admin.run("CREATE POLICY everything ON businesses USING (true)")
    _, watch = await set_up(rows, owned)
    owned.admin.run("ALTER POLICY everything ON businesses USING (id > 10)")
    with pytest.raises(SourceRefused, match="row-level security"):
        await watch.triggers_in_force()


async def test_a_repair_gives_way_to_the_application_within_a_fraction_of_a_second(
    owned: OwnedTable, rows: Database
) -> None:
    """Meanwhile the application's other statements queue up behind it."""
    await set_up(rows, owned)
    began = time.monotonic()
    await set_up(rows, owned)
    without_a_lock_s = time.monotonic() - began
    owned.admin.run(f'DROP TRIGGER "{owned.stem}_ins" ON businesses')
    with owned.admin.transaction() as open_transaction:
        run(open_transaction, "UPDATE businesses SET name = 'not committed yet'")
        tries_s = []
        for _ in range(5):  # a stall of the machine prolongs some of them
            began = time.monotonic()
            with pytest.raises(RowsLocked):
                await set_up(rows, owned)
            tries_s.append(time.monotonic() - began)
    assert min(tries_s) < 1.5 + without_a_lock_s  # before, the lock alone was waited for for 2 s, in each of them
    await set_up(rows, owned)
    assert len(owned.triggers()) == 2


async def test_a_disabled_trigger_of_a_single_partition_is_noticed(
    database: GivenDatabase, database_server: DatabaseServer
) -> None:
    owned = owned_table(
        database,
        database_server,
        "CREATE TABLE businesses (id bigint PRIMARY KEY, name text, description text, embedding vector(3)) "
        "PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF businesses DEFAULT",
    )
    owned.admin.run(f'GRANT TRIGGER ON part TO "{owned.operator}"')
    async with owned.rows() as rows:
        _, watch = await set_up(rows, owned)
        assert await watch.triggers_in_force()
        owned.admin.run(f'ALTER TABLE part DISABLE TRIGGER "{owned.stem}_upd"')
        assert not await watch.triggers_in_force()


async def test_paused_triggers_stay_away_until_they_are_resumed(owned: OwnedTable, rows: Database) -> None:
    store, _ = await set_up(rows, owned)
    await store.record_filled()
    since = await pause_triggers(rows, owned.config.at)
    assert owned.triggers() == []
    store, watch = await set_up(rows, owned)
    assert (watch.paused_since, owned.triggers()) == (since, [])
    assert await watch.triggers_in_force()
    assert await store.is_filled()
    owned.admin.run("UPDATE businesses SET name = 'not recorded'")

    await record_resumed(rows, owned.config.at)
    store, watch = await set_up(rows, owned)
    assert watch.paused_since is None
    assert await watch.triggers_in_force()
    assert not await store.is_filled()


async def test_pausing_twice_keeps_the_first_time(owned: OwnedTable, rows: Database) -> None:
    await set_up(rows, owned)
    since = await pause_triggers(rows, owned.config.at)
    assert await pause_triggers(rows, owned.config.at) == since


async def test_a_confirmation_tells_that_the_triggers_were_paused_and_resumed(
    owned: OwnedTable, rows: Database
) -> None:
    store, watch = await set_up(rows, owned)
    await store.record_filled()
    before = await watch.confirm_owner()
    since = await pause_triggers(rows, owned.config.at)
    paused = await watch.confirm_owner()
    await record_resumed(rows, owned.config.at)
    resumed = await watch.confirm_owner()
    found = [(state.paused_since, state.filled_for) for state in (before, paused, resumed) if state is not None]
    assert found == [(None, owned.config.signature), (since, owned.config.signature), (None, None)]


async def test_the_owner_of_the_table_may_migrate_it_without_any_trigger(owned: OwnedTable, rows: Database) -> None:
    await set_up(rows, owned)
    await pause_triggers(rows, owned.config.at)
    with owned.session() as session:
        run(session, "UPDATE businesses SET name = 'not recorded'")
    assert owned.oracle.marks() == []
