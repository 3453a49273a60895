"""Preparing a source again: which roles may do it, and what a changed source changes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from embedding_worker.errors import RowsLocked, SourceRefused
from embedding_worker.rows.database import Database
from embedding_worker.source import ChangeDetection
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle, run, source_config

# Everything in the catalogs that a second preparation could have changed, with the transaction that wrote it.
CATALOG = """
SELECT 'class', c.relname::text, c.xmin::text FROM pg_class c
    WHERE c.relnamespace IN ('public'::regnamespace, 'embedding_operator'::regnamespace)
UNION ALL SELECT 'trigger', t.tgname::text, t.xmin::text FROM pg_trigger t
UNION ALL SELECT 'function', p.proname::text, p.xmin::text FROM pg_proc p
    WHERE p.pronamespace = 'embedding_operator'::regnamespace
UNION ALL SELECT 'record', s.bookkeeping, s.xmin::text FROM embedding_operator.sources s
ORDER BY 1, 2
"""
TRIGGERS = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'businesses'::regclass AND NOT tgisinternal"


@pytest.fixture
async def least(database: GivenDatabase, database_server: DatabaseServer) -> AsyncIterator[tuple[str, Database]]:
    """A role that may log in and no more, by its name; and its way into the database."""
    role, password = database_server.create_role("least")
    async with Database(database.url_for(role, password), max_connections=2) as opened:
        yield f'"{role}"', opened


async def test_preparing_twice_changes_nothing(businesses: Application, keep: Keep) -> None:
    await keep()
    before = businesses.run(CATALOG)
    await keep()
    assert businesses.run(CATALOG) == before


@pytest.mark.parametrize("recorded", [None, '"public"."vector"'], ids=["nothing recorded", "the type alone"])
async def test_vectors_with_hashes_of_an_earlier_version_are_trusted_and_hashed_again(
    businesses: Application, keep: Keep, recorded: str | None
) -> None:
    keeper, oracle = await keep()
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two')")
    await keeper.keep()
    businesses.run(f"UPDATE {keeper.statements.state} SET vector_hash = '\\x0123456789abcdef'")
    businesses.run("UPDATE embedding_operator.sources SET vector_type = %s", recorded)
    keeper, oracle = await keep()
    assert (await keeper.audit(), await keeper.keep(), oracle.wrong()) == (0, 0, [])
    businesses.run("UPDATE businesses SET embedding = '[9,9,9]' WHERE name = 'one'")
    assert await keeper.audit() == 1


async def test_a_column_that_the_operator_has_added_is_the_same_when_the_source_is_set_up_again(
    application: Application, keep: Keep
) -> None:
    application.run("CREATE TABLE businesses (id bigint PRIMARY KEY, name text)")
    keeper, _ = await keep()
    recorded = application.run("SELECT vector_type FROM embedding_operator.sources")
    again, _ = await keep()
    assert again.statements == keeper.statements
    assert application.run("SELECT vector_type FROM embedding_operator.sources") == recorded


async def test_preparing_again_waits_for_no_writer(businesses: Application, keep: Keep) -> None:
    await keep()
    with businesses.transaction() as connection:
        run(connection, "INSERT INTO businesses (name) VALUES ('not committed yet')")
        await keep()


async def test_preparing_for_the_first_time_gives_way_to_a_writer(businesses: Application, keep: Keep) -> None:
    """The trigger needs a lock that a writer's transaction prevents: preparation waits a little, and is tried again later."""
    with businesses.transaction() as connection:
        run(connection, "INSERT INTO businesses (name) VALUES ('not committed yet')")
        with pytest.raises(RowsLocked):
            await keep()
    assert businesses.run("SELECT to_regnamespace('embedding_operator')") == [(None,)]
    await keep()


async def test_many_may_prepare_at_once(application: Application, keep: Keep) -> None:
    application.run("CREATE TABLE businesses (id bigint PRIMARY KEY, name text)")
    prepared = await asyncio.gather(*(keep() for _ in range(4)))
    application.run("INSERT INTO businesses VALUES (1, 'one')")
    _, oracle = prepared[0]
    assert oracle.marks() == ["1"]


async def test_the_documented_privileges_are_enough(
    businesses: Application, database: GivenDatabase, least: tuple[str, Database]
) -> None:
    role, rows = least
    businesses.run(f'GRANT CREATE ON DATABASE "{database.name}" TO {role}')
    businesses.run(f"GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO {role}")
    businesses.run("INSERT INTO businesses (name) VALUES ('there before')")
    keeper, oracle = await Keeper.prepare(rows, source_config()), Oracle(businesses, source_config())
    businesses.run("INSERT INTO businesses (name) VALUES ('new'), ('gone')")
    businesses.run("DELETE FROM businesses WHERE name = 'gone'")
    assert await keeper.audit() == 1
    assert await keeper.keep() == 2
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert (await keeper.store.counts()).total == 2
    before = businesses.run(CATALOG)
    await Keeper.prepare(rows, source_config())
    assert businesses.run(CATALOG) == before


async def test_a_role_without_the_trigger_privilege_can_do_with_the_audit_alone(
    businesses: Application, database: GivenDatabase, least: tuple[str, Database]
) -> None:
    role, rows = least
    businesses.run(f'GRANT CREATE ON DATABASE "{database.name}" TO {role}')
    businesses.run(f"GRANT SELECT, UPDATE (embedding) ON businesses TO {role}")
    with pytest.raises(SourceRefused, match=r"TRIGGER is not needed if spec\.changeDetection is Audit"):
        await Keeper.prepare(rows, source_config())
    assert businesses.run("SELECT to_regnamespace('embedding_operator')") == [(None,)]
    await Keeper.prepare(rows, source_config(detection=ChangeDetection.AUDIT))


async def test_another_text_remakes_the_trigger(businesses: Application, keep: Keep) -> None:
    keeper, oracle = await keep(text="name")
    businesses.run("INSERT INTO businesses (name) VALUES ('one')")
    await keeper.keep()
    keeper, oracle = await keep(text="description")
    businesses.run("UPDATE businesses SET name = 'not read any more'")
    assert oracle.marks() == []
    businesses.run("UPDATE businesses SET description = 'read now'")
    assert oracle.marks() == ["1"]
    assert await keeper.keep() == 1
    assert oracle.wrong() == []


async def test_another_text_over_the_same_columns_leaves_the_trigger_alone(businesses: Application, keep: Keep) -> None:
    def catalog() -> list[tuple[str, ...]]:
        return [entry for entry in businesses.run(CATALOG) if entry[0] != "record"]

    await keep(text="name")
    before = catalog()
    await keep(text="upper(name)")
    assert catalog() == before


async def test_a_dropped_trigger_is_made_again(businesses: Application, keep: Keep) -> None:
    await keep()
    for (name,) in businesses.run(TRIGGERS):
        businesses.run(f'DROP TRIGGER "{name}" ON businesses')
    await keep()
    assert len(businesses.run(TRIGGERS)) == 2


async def test_by_audit_alone_no_trigger_is_made(businesses: Application, keep: Keep) -> None:
    keeper, oracle = await keep(detection=ChangeDetection.AUDIT)
    assert businesses.run(TRIGGERS) == []
    businesses.run("INSERT INTO businesses (name) VALUES ('one')")
    assert oracle.marks() == []
    assert await keeper.audit() == 1
    assert await keeper.keep() == 1
    assert oracle.wrong() == []


async def test_a_source_that_turns_to_audit_drops_its_trigger_and_back_makes_it(
    businesses: Application, keep: Keep
) -> None:
    await keep()
    await keep(detection=ChangeDetection.AUDIT)
    assert businesses.run(TRIGGERS) == []
    await keep()
    assert len(businesses.run(TRIGGERS)) == 2


async def test_the_operators_role_drops_a_trigger_on_a_table_that_it_does_not_own(
    businesses: Application, database: GivenDatabase, least: tuple[str, Database]
) -> None:
    role, rows = least
    businesses.run(f'GRANT CREATE ON DATABASE "{database.name}" TO {role}')
    businesses.run(f"GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO {role}")
    await Keeper.prepare(rows, source_config())
    await Keeper.prepare(rows, source_config(detection=ChangeDetection.AUDIT))
    assert businesses.run(TRIGGERS) == []


async def test_a_trigger_whose_function_belongs_to_another_role_is_named(
    businesses: Application, database: GivenDatabase, least: tuple[str, Database]
) -> None:
    role, rows = least
    businesses.run(f'GRANT CREATE ON DATABASE "{database.name}" TO {role}')
    businesses.run(f"GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO {role}")
    await Keeper.prepare(rows, source_config())
    stem = source_config().at.bookkeeping_name
    businesses.run(f'ALTER FUNCTION embedding_operator."{stem}_mark" OWNER TO CURRENT_USER')
    businesses.run("ALTER SCHEMA embedding_operator OWNER TO CURRENT_USER")
    businesses.run(f"GRANT USAGE ON SCHEMA embedding_operator TO {role}")
    audit = source_config(detection=ChangeDetection.AUDIT)
    with pytest.raises(SourceRefused, match="as the owner of the function DROP FUNCTION IF EXISTS") as refused:
        await Keeper.prepare(rows, audit)
    assert refused.value.reason == "Forbidden"
    businesses.run(refused.value.message.split("of the function ")[1].split(", or set")[0])
    await Keeper.prepare(rows, audit)
    assert businesses.run(TRIGGERS) == []


async def test_a_function_that_was_given_to_another_role_is_replaced_by_the_owner_of_the_schema(
    businesses: Application, database: GivenDatabase, least: tuple[str, Database]
) -> None:
    role, rows = least
    businesses.run(f'GRANT CREATE ON DATABASE "{database.name}" TO {role}')
    businesses.run(f"GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO {role}")
    await Keeper.prepare(rows, source_config(text="name"))
    stem = source_config().at.bookkeeping_name
    businesses.run(f'ALTER FUNCTION embedding_operator."{stem}_mark" OWNER TO CURRENT_USER')
    await Keeper.prepare(rows, source_config(text="phone"))
    businesses.run("INSERT INTO businesses (phone) VALUES ('1')")
    businesses.run("UPDATE businesses SET phone = '2'")
    assert Oracle(businesses, source_config()).marks() == ["1", "1"]


async def test_what_was_filled_is_remembered_for_one_text_and_model(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep(text="name")
    assert not await keeper.store.is_filled()
    await keeper.store.record_filled()
    again, _ = await keep(text="name")
    another, _ = await keep(text="upper(name)")
    assert await again.store.is_filled()
    assert not await another.store.is_filled()
