"""Logical replication out of the table and into it, with and without our schema, never stops because of us."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedding_worker.rows.database import Database
from embedding_worker.rows.readiness import ready_for
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.deadline import wait_until
from tests.support.kept_rows import BUSINESSES, Application, Keeper, Oracle, source_config
from tests.support.postgres_programs import dump, restore

STEM = source_config().at.bookkeeping_name
NAMES = "SELECT id, name FROM businesses ORDER BY id"


@dataclass(frozen=True)
class Pair:
    """`publisher` and `subscriber` are two databases of one server, as their owner uses them."""

    publisher: Application
    subscriber: Application
    name: str

    @contextmanager
    def replicating(self, publication: str) -> Iterator[None]:
        """From the time when the rows that exist were copied until the end of the block."""
        slot = f"slot_{self.name}"
        self.publisher.run(f"CREATE PUBLICATION of_test {publication}")
        # In the same server CREATE SUBSCRIPTION would wait for its own transaction when it creates the slot.
        self.publisher.run("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", slot)
        try:
            self.subscriber.run(
                f"CREATE SUBSCRIPTION of_test CONNECTION '{self.publisher.url}' PUBLICATION of_test "
                f"WITH (create_slot = false, slot_name = '{slot}')"
            )
            wait_until(self.copied, within_s=30, every_s=0.1, because="the rows that exist are copied")
            yield
            self.end()
        finally:
            self.end()
            wait_until(lambda: self._drop_slot(slot), within_s=30, every_s=0.1, because="the slot is no longer in use")

    def copied(self) -> bool:
        states = self.subscriber.run("SELECT srsubstate::text FROM pg_subscription_rel")
        return bool(states) and all(state == ("r",) for state in states)

    def end(self) -> None:
        if self.subscriber.run(
            "SELECT 1 FROM pg_subscription WHERE subname = 'of_test' AND "
            "subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ):
            self.subscriber.run("ALTER SUBSCRIPTION of_test DISABLE")
            self.subscriber.run("ALTER SUBSCRIPTION of_test SET (slot_name = NONE)")
            self.subscriber.run("DROP SUBSCRIPTION of_test")

    def _drop_slot(self, slot: str) -> bool:
        self.publisher.run(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active",
            slot,
        )
        return not self.publisher.run("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", slot)

    def wait_until_equal(self, query: str) -> None:
        wait_until(
            lambda: self.publisher.run(query) == self.subscriber.run(query),
            within_s=30,
            every_s=0.1,
            because="the subscriber has what the publisher has",
        )


@pytest.fixture
def pair(database: GivenDatabase, database_server: DatabaseServer) -> Iterator[Pair]:
    publisher = Application(database.url)
    if publisher.run("SHOW wal_level") != [("logical",)]:
        pytest.skip("the given server has another wal_level than logical")
    publisher.run(BUSINESSES)
    target = database_server.create_database("subscriber")
    yield Pair(publisher, Application(target.url), database.name)
    database_server.drop_database(target.name)


def copy_schema(pair: Pair, folder: Path) -> None:
    done = restore(pair.subscriber.url, dump(pair.publisher.url, folder / "schema", "--schema-only"), "--exit-on-error")
    assert done.returncode == 0, done.stderr


async def test_all_tables_are_replicated_while_marks_wait_and_after_the_move_both_sides_write(
    pair: Pair, tmp_path: Path
) -> None:
    """The subscriber gets our tables too, and its sequence of marks starts at 1 again."""
    config = source_config()
    async with Database(pair.publisher.url, max_connections=2) as rows:
        keeper = await Keeper.prepare(rows, config)
        pair.publisher.run("INSERT INTO businesses (name) SELECT 'name ' || n FROM generate_series(1, 20) n")
        copy_schema(pair, tmp_path)
        with pair.replicating("FOR ALL TABLES"):
            pair.publisher.run("UPDATE businesses SET name = name || ' edited' WHERE id <= 10")
            pair.publisher.run("INSERT INTO businesses (name) VALUES ('new')")
            pair.publisher.run("DELETE FROM businesses WHERE id = 20")
            pair.wait_until_equal(NAMES)
            await keeper.keep()
            pair.publisher.run("UPDATE businesses SET name = 'last' WHERE id = 1")
            pair.wait_until_equal(NAMES)
            pair.wait_until_equal(f'SELECT id, content_hash FROM embedding_operator."{STEM}_state" ORDER BY id')
    pair.subscriber.run("SELECT setval(pg_get_serial_sequence('businesses', 'id'), 100)")
    pair.subscriber.run("INSERT INTO businesses (name) VALUES ('after the move')")
    pair.subscriber.run("UPDATE businesses SET name = 'after the move' WHERE id = 2")
    async with Database(pair.subscriber.url, max_connections=2) as rows:
        keeper, oracle = await Keeper.prepare(rows, config), Oracle(pair.subscriber, config)
        before = max(row[0] for row in pair.subscriber.run(f'SELECT seq FROM embedding_operator."{STEM}_marks"'))
        pair.subscriber.run("UPDATE businesses SET name = 'once more' WHERE id = 3")
        assert list(await keeper.store.newer_marks({"3": before})) != []
        await keeper.audit()
        assert await keeper.keep() == 4
        assert oracle.wrong() == []


async def test_a_subscriber_of_all_tables_continues_when_it_has_got_the_new_ones(pair: Pair, tmp_path: Path) -> None:
    """PostgreSQL's apply worker waits for a table that it does not have, as for any other new table, and loses nothing."""
    pair.subscriber.run(BUSINESSES)
    with pair.replicating("FOR ALL TABLES"):
        async with Database(pair.publisher.url, max_connections=2) as rows:
            assert "copy schema embedding_operator to the subscribers" in await ready_for(rows, source_config())
            keeper = await Keeper.prepare(rows, source_config())
            pair.publisher.run("INSERT INTO businesses (name) VALUES ('one')")
            await keeper.keep()
        schema = dump(pair.publisher.url, tmp_path / "schema", "--schema-only", "--schema=embedding_operator")
        assert restore(pair.subscriber.url, schema, "--exit-on-error").returncode == 0
        pair.wait_until_equal("SELECT id, name, embedding::text FROM businesses")


async def test_a_publication_of_the_table_alone_needs_nothing_of_ours_at_the_subscriber(pair: Pair) -> None:
    async with Database(pair.publisher.url, max_connections=2) as rows:
        keeper = await Keeper.prepare(rows, source_config())
        pair.publisher.run("INSERT INTO businesses (name) VALUES ('one'), ('two')")
        pair.subscriber.run(BUSINESSES)
        with pair.replicating("FOR TABLE businesses"):
            pair.publisher.run("UPDATE businesses SET name = 'edited' WHERE id = 1")
            assert await keeper.keep() == 2
            pair.publisher.run("DELETE FROM businesses WHERE id = 2")
            pair.wait_until_equal("SELECT id, name, embedding::text FROM businesses ORDER BY id")


async def test_rows_that_are_replicated_into_the_table_are_marked_where_the_operators_role_owns_it(pair: Pair) -> None:
    pair.publisher.run("INSERT INTO businesses (name) VALUES ('copied')")
    pair.subscriber.run(BUSINESSES)
    async with Database(pair.subscriber.url, max_connections=2) as rows:
        keeper, oracle = await Keeper.prepare(rows, source_config()), Oracle(pair.subscriber, source_config())
        with pair.replicating("FOR TABLE businesses (id, name, description, phone)"):
            pair.publisher.run("INSERT INTO businesses (name) VALUES ('replicated')")
            pair.publisher.run("UPDATE businesses SET name = 'edited' WHERE id = 1")
            pair.wait_until_equal(NAMES)
            assert sorted(oracle.marks()) == ["1", "1", "2"]
            assert await keeper.keep() == 2
        assert oracle.wrong() == []


@pytest.mark.parametrize(
    "damage", ["ALTER TABLE businesses RENAME phone TO tel", f'DROP TABLE embedding_operator."{STEM}_marks"']
)
async def test_the_apply_worker_goes_on_whatever_happens_to_our_tables(pair: Pair, damage: str) -> None:
    pair.subscriber.run(BUSINESSES)
    async with Database(pair.subscriber.url, max_connections=2) as rows:
        await Keeper.prepare(rows, source_config(text="concat_ws(' ', name, phone)"))
        with pair.replicating("FOR TABLE businesses (id, name)"):
            pair.publisher.run("INSERT INTO businesses (name) VALUES ('before')")
            pair.wait_until_equal(NAMES)
            pair.subscriber.run(damage)
            pair.publisher.run("INSERT INTO businesses (name) VALUES ('after')")
            pair.publisher.run("UPDATE businesses SET name = 'edited' WHERE id = 1")
            pair.wait_until_equal(NAMES)
