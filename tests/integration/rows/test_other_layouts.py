"""The book-keeping of version 0.1.0, and that of another id type, become what this version needs; nothing is embedded again."""

from dataclasses import replace

import psycopg
import pytest

from embedding_worker.errors import RowsLocked, SourceRefused
from embedding_worker.limits import Limits
from embedding_worker.rows.records import RateLimits, UsageNote
from embedding_worker.rows.store import RowStore
from embedding_worker.source import ChangeDetection
from embedding_worker.text import content_hash
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, fake_vector, run, source_config
from tests.support.owned_table import OwnedTable, owned_table

STEM = source_config().at.bookkeeping_name
# What 0.1.0 creates for a source of this table (worker/embedding_worker/rows/change_marks.py of that version).
FIRST_VERSION = f"""
CREATE SCHEMA embedding_operator;
CREATE TABLE embedding_operator.sources (
    bookkeeping text PRIMARY KEY, table_name text NOT NULL, embedding_column text NOT NULL,
    trigger_definition text NOT NULL, in_force text NOT NULL, filled_for text);
CREATE TABLE embedding_operator.usage (
    bookkeeping text, day date, texts bigint NOT NULL DEFAULT 0, tokens bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (bookkeeping, day));
CREATE TABLE embedding_operator."{STEM}_state" (
    id bigint PRIMARY KEY, content_hash text NOT NULL, fingerprint text NOT NULL, embedded_at timestamptz NOT NULL);
CREATE TABLE embedding_operator."{STEM}_due" (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT now(), edited boolean NOT NULL DEFAULT true, moved boolean NOT NULL DEFAULT false);
CREATE INDEX "{STEM}_due_id" ON embedding_operator."{STEM}_due" (id);
CREATE INDEX "{STEM}_due_edit" ON embedding_operator."{STEM}_due" (seq) WHERE edited;
CREATE FUNCTION embedding_operator."{STEM}_mark"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $mark$BEGIN INSERT INTO embedding_operator."{STEM}_due" (id, moved)
    VALUES (NEW."id", TG_OP = 'UPDATE' AND NEW."id" <> OLD."id"); RETURN NULL; END$mark$;
REVOKE EXECUTE ON FUNCTION embedding_operator."{STEM}_mark"() FROM PUBLIC;
CREATE TRIGGER "{STEM}_ins" AFTER INSERT ON "public"."businesses"
    FOR EACH ROW EXECUTE FUNCTION embedding_operator."{STEM}_mark"();
CREATE TRIGGER "{STEM}_upd" AFTER UPDATE ON "public"."businesses" FOR EACH ROW
    WHEN (pg_catalog.record_image_ne(ROW(OLD."id", OLD."name", OLD."description"), ROW(NEW."id", NEW."name", NEW."description")))
    EXECUTE FUNCTION embedding_operator."{STEM}_mark"()"""
OBJECTS = """
SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'embedding_operator'::regnamespace AND c.relkind = 'r' ORDER BY 1
"""


@pytest.fixture
def earlier(database: GivenDatabase, database_server: DatabaseServer) -> OwnedTable:
    """A table that 0.1.0 serves: row 1 is fresh and edited since, row 2 is fresh, row 3 has moved to the id of another row."""
    made = owned_table(database, database_server)
    as_operator = Application(made.operator_url)
    for statement in FIRST_VERSION.split(";\n"):
        as_operator.run(statement)
    config = made.config
    as_operator.run(
        "INSERT INTO embedding_operator.sources VALUES (%s, 'public.businesses', 'embedding', 'of 0.1.0', %s, %s)",
        STEM,
        config.as_record(),
        config.signature,
    )
    with made.session() as session:
        run(session, "INSERT INTO businesses (id, name) VALUES (2, 'two'), (3, 'three')")
    for row_id, text in (("1", "one"), ("2", "two"), ("3", "three")):
        vector = str(fake_vector("another" if row_id == "3" else text))
        as_operator.run("UPDATE businesses SET embedding = %s WHERE id = %s", vector, row_id)
        state = f'INSERT INTO embedding_operator."{STEM}_state" VALUES (%s, %s, %s, now())'
        as_operator.run(state, row_id, content_hash(text), config.fingerprint)
    as_operator.run(f'DELETE FROM embedding_operator."{STEM}_due"')
    as_operator.run(f'INSERT INTO embedding_operator."{STEM}_due" (id, moved) VALUES (3, true)')
    with made.session() as session:
        run(session, "UPDATE businesses SET name = 'edited' WHERE id = 1")
    return made


async def test_an_upgrade_keeps_what_was_right_and_finds_what_is_due(earlier: OwnedTable) -> None:
    async with earlier.rows() as rows:
        keeper = await Keeper.prepare(rows, earlier.config)
        assert earlier.oracle.marks() == ["3", "1"]
        assert not await keeper.store.is_filled()
        assert await keeper.keep() == 2
        assert await keeper.audit() == 0
        assert earlier.oracle.wrong() == []
    assert [row[0] for row in earlier.admin.run(OBJECTS)] == [
        "backfill_workers",
        "backfills",
        f"{STEM}_marks",
        f"{STEM}_state",
        "outcomes",
        "rate_limits",
        "sources",
        "usage",
    ]


async def test_after_an_upgrade_the_owner_may_migrate_the_table(earlier: OwnedTable) -> None:
    with earlier.session() as session, pytest.raises(psycopg.errors.FeatureNotSupported, match="trigger definition"):
        run(session, "ALTER TABLE businesses ALTER COLUMN name TYPE varchar(99)")
    await earlier.set_up()
    with earlier.session() as session:
        run(session, "ALTER TABLE businesses ALTER COLUMN name TYPE varchar(99)")


async def test_an_upgrade_loses_no_edit_of_a_transaction_that_is_open_meanwhile(earlier: OwnedTable) -> None:
    with psycopg.connect(earlier.owner_url) as session:
        run(session, "UPDATE businesses SET name = 'meanwhile' WHERE id = 2")
        with pytest.raises(RowsLocked):
            await earlier.set_up()
        run(session, "UPDATE businesses SET description = 'meanwhile' WHERE id = 2")
    await earlier.set_up()
    with earlier.session() as session:
        run(session, "UPDATE businesses SET name = 'afterwards' WHERE id = 2")
    assert earlier.oracle.marks() == ["3", "1", "2", "2", "2"]


async def test_after_an_upgrade_what_was_sent_today_still_counts(earlier: OwnedTable) -> None:
    counted = "INSERT INTO embedding_operator.usage VALUES (%s, (now() AT TIME ZONE 'UTC')::date, 7, 70)"
    earlier.admin.run(counted, STEM)
    async with earlier.rows() as rows:
        before = await (await RowStore.inspect(rows, earlier.config)).used_today()
        assert before is not None, "a plan is made before the upgrade"
        assert (before.texts, before.tokens, before.reported, before.cut) == (7, 70, 0, 0)
        keeper = await Keeper.prepare(rows, earlier.config)
        assert (await keeper.store.acquire_texts([1, 2, 3], Limits(9))).texts == 2
        await keeper.store.record_usage([UsageNote(0.0, more_tokens=-1, reported=1, cut=1)], now=0.0)
        used = await keeper.store.used_today()
    assert used is not None
    assert (used.texts, used.tokens, used.reported, used.cut) == (9, 71, 1, 1)


async def test_an_upgrade_creates_the_rate_limits_that_an_earlier_version_did_not_have(earlier: OwnedTable) -> None:
    await earlier.set_up()
    earlier.admin.run("DROP TABLE embedding_operator.rate_limits")
    async with earlier.rows() as rows:
        store = (await Keeper.prepare(rows, earlier.config)).store
        grant = await store.acquire_rate("key", RateLimits(requests=1), texts=1, tokens=1, longest_wait_s=0.0)
    assert grant.granted


async def test_a_role_that_may_not_create_the_rate_limits_gets_the_remedy(earlier: OwnedTable) -> None:
    await earlier.set_up()
    earlier.admin.run("DROP TABLE embedding_operator.rate_limits")
    earlier.admin.run(f'ALTER SCHEMA embedding_operator OWNER TO "{earlier.owner}"')
    earlier.admin.run(f'GRANT USAGE ON SCHEMA embedding_operator TO "{earlier.operator}"')
    config = replace(earlier.config, change_detection=ChangeDetection.AUDIT)  # the triggers need the right, too
    async with earlier.rows() as rows:
        with pytest.raises(SourceRefused) as refused:
            await Keeper.prepare(rows, config)
    assert f'GRANT CREATE ON SCHEMA embedding_operator TO "{earlier.operator}"' in refused.value.message


async def test_a_second_set_up_after_an_upgrade_changes_nothing(earlier: OwnedTable) -> None:
    await earlier.set_up()
    async with earlier.rows() as rows:
        await (await Keeper.prepare(rows, earlier.config)).store.record_filled()
        assert await (await Keeper.prepare(rows, earlier.config)).store.is_filled()


# The id column's type before and after, ids before, and how many rows are embedded again.
ID_TYPES = [
    ("integer", "bigint", ["1", "2"], 0),
    ("bigint", "integer", ["1", "2"], 0),
    ("bigint", "text", ["1", "2"], 0),
    ("text", "bigint", ["1", "2"], 0),
    ("text", "uuid", ["00000000-0000-0000-0000-000000000001", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], 0),
    ("uuid", "text", ["00000000-0000-0000-0000-000000000001"], 0),
]


@pytest.mark.parametrize(("before", "after", "ids", "again"), ID_TYPES)
async def test_the_book_keeping_follows_the_type_of_the_id(
    application: Application, keep: Keep, before: str, after: str, ids: list[str], again: int
) -> None:
    application.run(f"CREATE TABLE businesses (id {before} PRIMARY KEY, name text, embedding vector(3))")
    application.run(f"INSERT INTO businesses SELECT i::{before}, 'of ' || i FROM unnest(%s::text[]) i", ids)
    keeper, _ = await keep()
    await keeper.audit()
    assert await keeper.keep() == len(ids)
    application.run(f"ALTER TABLE businesses ALTER COLUMN id TYPE {after} USING id::text::{after}")
    keeper, oracle = await keep()
    await keeper.audit()
    assert await keeper.keep() == again
    application.run("UPDATE businesses SET name = 'new'")
    assert await keeper.keep() == len(ids)
    assert oracle.wrong() == []


async def test_states_of_ids_that_no_row_can_have_any_more_are_deleted(application: Application, keep: Keep) -> None:
    application.run("CREATE TABLE businesses (id text PRIMARY KEY, name text, embedding vector(3))")
    application.run("INSERT INTO businesses VALUES ('1', 'one'), ('no number', 'two'), ('007', 'three'), ('7', 'four')")
    keeper, _ = await keep()
    await keeper.audit()
    await keeper.keep()
    application.run("DELETE FROM businesses WHERE id IN ('no number', '007')")
    application.run("ALTER TABLE businesses ALTER COLUMN id TYPE bigint USING id::bigint")
    keeper, oracle = await keep()
    await keeper.audit()
    assert await keeper.keep() == 0
    assert set(oracle.states()) == {"1", "7"}


async def test_a_table_made_again_with_another_id_type_is_kept(application: Application, keep: Keep) -> None:
    application.run("CREATE TABLE businesses (id integer PRIMARY KEY, name text, embedding vector(3))")
    await keep()
    application.run("DROP TABLE businesses")
    application.run("CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding vector(3))")
    application.run("INSERT INTO businesses VALUES (9223372036854775807, 'one')")
    keeper, oracle = await keep()
    assert await keeper.audit() == 1
    assert await keeper.keep() == 1
    assert oracle.wrong() == []
