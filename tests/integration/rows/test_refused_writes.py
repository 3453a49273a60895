"""Writes that the application's own triggers, rules, constraints and grants change, suppress or refuse: whose failure each is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import SystemClock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.errors import TableRefused
from embedding_worker.outcome import RowOutcome, RowRequest, decider
from embedding_worker.refused_rows import Written
from embedding_worker.rows.database import Database
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash
from embedding_worker.writer import Writer
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.deadline import eventually
from tests.support.fake_provider import FakeEmbedder, fake_calls
from tests.support.kept_rows import Application, Keeper, Oracle, fake_vector, run, source_config, vector_write

ROWS = 20
BAD = {"7", "8"}
EVERY = {str(n) for n in range(1, ROWS + 1)}


def trigger(body: str, *, when: str = "BEFORE UPDATE", condition: str = "OLD.id IN (7, 8)") -> str:
    return (
        f"CREATE FUNCTION applied() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$;"
        f"CREATE TRIGGER applied {when} ON businesses FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION applied()"
    )


SUPPRESSED = {
    "a trigger suppresses the update": trigger("RETURN NULL;"),
    "a trigger keeps the previous vector": trigger("NEW.embedding := OLD.embedding; RETURN NEW;"),
    "a trigger keeps no vector": trigger("NEW.embedding := NULL; RETURN NEW;"),
}
REFUSED = {
    "a trigger raises": (trigger("RAISE EXCEPTION 'secret of %', NEW.name;"), "P0001"),
    "a trigger raises at the end of the transaction": (
        trigger("RAISE EXCEPTION 'secret of %', NEW.name;", when="AFTER UPDATE").replace(
            "TRIGGER applied AFTER UPDATE ON businesses",
            "CONSTRAINT TRIGGER applied AFTER UPDATE ON businesses DEFERRABLE INITIALLY DEFERRED",
        ),
        "P0001",
    ),
    "a constraint on the vector": (
        f"ALTER TABLE businesses ADD CHECK (embedding[1] NOT IN "
        f"({fake_vector('name 7')[0]}, {fake_vector('name 8')[0]})) NOT VALID",
        "23514",
    ),
    "a trigger needs a right": (
        "CREATE TABLE changes (id bigint); "
        + trigger("SET ROLE pg_monitor; INSERT INTO changes VALUES (NEW.id); RETURN NEW;"),
        "42501",
    ),
    "a trigger reads a table that does not exist": (trigger("PERFORM FROM missing; RETURN NEW;"), "42P01"),
}


@pytest.fixture
async def kept(application: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    application.run("CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding real[])")
    application.run("INSERT INTO businesses SELECT i, 'name ' || i FROM generate_series(1, %s) i", ROWS)
    keeper, oracle = await keep(text="name")
    await keeper.audit()
    return keeper, oracle


async def write(keeper: Keeper, ids: Sequence[str] = ()) -> Written:
    return await Writer(keeper.store, clock=SystemClock()).write(
        [vector_write(row_id, f"name {row_id}") for row_id in ids or sorted(EVERY, key=int)]
    )


@pytest.mark.parametrize("suppression", SUPPRESSED.values(), ids=SUPPRESSED.keys())
async def test_rows_whose_update_is_suppressed_are_told_apart_and_stay_due(
    application: Application, kept: tuple[Keeper, Oracle], suppression: str
) -> None:
    keeper, oracle = kept
    application.run(suppression)
    written = await write(keeper)
    assert (written.suppressed, written.ids, written.refused) == (BAD, EVERY - BAD, {})
    assert set(oracle.marks()) == BAD
    assert (set(oracle.states()), await keeper.audit()) == (EVERY - BAD, 0)
    application.run("DROP TRIGGER applied ON businesses")
    assert await keeper.keep() == len(BAD)
    assert (oracle.wrong(), oracle.marks()) == ([], [])


@pytest.mark.parametrize("suppression", SUPPRESSED.values(), ids=SUPPRESSED.keys())
async def test_an_edited_row_whose_previous_vector_stays_is_never_taken_for_fresh(
    application: Application, kept: tuple[Keeper, Oracle], suppression: str
) -> None:
    keeper, oracle = kept
    await keeper.keep()
    application.run(suppression)
    application.run(
        "UPDATE businesses SET name = 'new' WHERE id = 9; UPDATE businesses SET name = 'name 7' WHERE id = 7"
    )
    application.run(
        "ALTER TABLE businesses DISABLE TRIGGER applied; UPDATE businesses SET name = 'new' WHERE id IN (7, 8)"
    )
    application.run("ALTER TABLE businesses ENABLE TRIGGER applied")
    result = await Writer(keeper.store, clock=SystemClock()).write(
        [vector_write(row, "new") for row in ("7", "8", "9")]
    )
    assert (result.suppressed, result.ids) == (BAD, {"9"})
    assert set(oracle.wrong()) == BAD
    await keeper.audit()
    assert {row.id for row in await keeper.sweep() if not row.up_to_date} == BAD


async def test_a_vector_that_a_trigger_changes_is_written_and_not_sent_again(
    application: Application, kept: tuple[Keeper, Oracle]
) -> None:
    """As one that normalises vectors, or rounds them."""
    keeper, oracle = kept
    application.run(trigger("NEW.embedding[1] := NEW.embedding[1] / 2; RETURN NEW;", condition="true"))
    assert (await write(keeper)).ids == EVERY
    assert (oracle.marks(), await keeper.audit()) == ([], 0)


@pytest.mark.parametrize(("refusal", "sqlstate"), REFUSED.values(), ids=REFUSED.keys())
async def test_rows_that_are_refused_fail_alone_with_the_sqlstate_and_without_a_value(
    application: Application, kept: tuple[Keeper, Oracle], refusal: str, sqlstate: str
) -> None:
    keeper, oracle = kept
    application.run(refusal)
    written = await write(keeper)
    assert {row: error.sqlstate for row, error in written.refused.items()} == dict.fromkeys(BAD, sqlstate)
    assert not any("secret" in error.message for error in written.refused.values())
    assert (written.ids, written.suppressed) == (EVERY - BAD, set())
    assert (set(oracle.marks()), set(oracle.states())) == (BAD, EVERY - BAD)


@pytest.mark.parametrize("ids", [["7"], ["7", "8"]], ids=["one row", "two rows"])
@pytest.mark.parametrize(("refusal", "sqlstate"), REFUSED.values(), ids=REFUSED.keys())
async def test_rows_that_are_refused_together_are_to_blame_because_another_could_be_written(
    application: Application, kept: tuple[Keeper, Oracle], refusal: str, sqlstate: str, ids: list[str]
) -> None:
    keeper, _ = kept
    application.run(refusal)
    assert set((await write(keeper, ids)).refused) == set(ids)


async def test_a_row_that_another_session_has_locked_is_neither_suppressed_nor_refused(
    application: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    application.run(trigger("RETURN NULL;", condition="OLD.id = 8"))
    with application.transaction() as connection:
        run(connection, "SELECT FROM businesses WHERE id = 7 FOR UPDATE")
        written = await write(keeper)
    assert (written.ids, written.suppressed, written.refused) == (EVERY - BAD, {"8"}, {})


EVERY_ROW_REFUSED = {
    "a trigger raises": trigger("RAISE EXCEPTION 'closed for today';", condition="true"),
    "a trigger needs a table that is gone": trigger("INSERT INTO gone VALUES (1); RETURN NEW;", condition="true"),
    "a rule rewrites updates": "CREATE RULE applied AS ON UPDATE TO businesses DO INSTEAD NOTHING",
    "a rule rewrites some updates": "CREATE RULE applied AS ON UPDATE TO businesses WHERE OLD.id < 1 DO INSTEAD NOTHING",
    "the column is gone": "ALTER TABLE businesses RENAME embedding TO vector",
    "the column has another type": "ALTER TABLE businesses ALTER embedding TYPE text",
    "the table is gone": "ALTER TABLE businesses RENAME TO companies",
    "the table is replaced by a view": "ALTER TABLE businesses RENAME TO b; CREATE VIEW businesses AS SELECT * FROM b LIMIT 9",
}


@pytest.mark.parametrize("refusal", EVERY_ROW_REFUSED.values(), ids=EVERY_ROW_REFUSED.keys())
async def test_where_no_row_can_be_written_it_is_the_sources_failure(
    application: Application, kept: tuple[Keeper, Oracle], refusal: str
) -> None:
    keeper, oracle = kept
    application.run(refusal)
    with pytest.raises(TableRefused):
        await write(keeper)
    assert oracle.states() == {}
    assert set(oracle.marks()) == EVERY


@pytest.mark.parametrize("change", ["the column is gone", "the column has another type", "the table is gone"])
async def test_a_single_row_is_enough_where_the_statement_itself_is_refused(
    application: Application, kept: tuple[Keeper, Oracle], change: str
) -> None:
    keeper, _ = kept
    application.run(EVERY_ROW_REFUSED[change])
    with pytest.raises(TableRefused):
        await write(keeper, ["7"])


async def test_old_rows_that_a_trigger_refuses_are_to_blame_because_new_ones_are_written(
    application: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    application.run(trigger("RAISE EXCEPTION 'archived';", condition="OLD.id < 15"))
    assert set((await write(keeper, ["1", "2", "3", "4"])).refused) == {"1", "2", "3", "4"}


@pytest.fixture
async def least(
    application: Application, kept: tuple[Keeper, Oracle], database: GivenDatabase, database_server: DatabaseServer
) -> AsyncIterator[tuple[Keeper, str]]:
    """The source of a role that may write the vectors only, and the role's name."""
    application.run("DROP SCHEMA embedding_operator CASCADE")
    role, password = database_server.create_role("least")
    application.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
    application.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO "{role}"')
    async with Database(database.url_for(role, password), max_connections=3) as rows:
        keeper = await Keeper.prepare(rows, source_config(text="name"))
        await keeper.audit()
        yield keeper, role


@asynccontextmanager
async def batcher(
    keeper: Keeper, provider: FakeEmbedder
) -> AsyncIterator[tuple[RowEmbedder, Batcher[RowRequest, RowOutcome]]]:
    clock = SystemClock()
    calls = fake_calls(provider, clock=clock)
    decide = decider(max_text_bytes=calls.max_text_bytes, too_long=TooLong.TRUNCATE)
    embedder = RowEmbedder(keeper.store, calls, decide=decide, clock=clock)
    async with Batcher[RowRequest, RowOutcome](embedder.embed_batch, max_items=ROWS, clock=clock) as rows:
        yield embedder, rows


@pytest.mark.parametrize("right", ["UPDATE (embedding)", "SELECT"])
async def test_a_right_that_is_revoked_is_the_sources_failure_and_nothing_is_sent_or_recorded(
    application: Application, kept: tuple[Keeper, Oracle], least: tuple[Keeper, str], right: str
) -> None:
    keeper, role = least
    application.run(f'REVOKE {right} ON businesses FROM "{role}"')
    with pytest.raises(TableRefused, match="permission denied for table businesses"):
        await write(keeper)
    provider = FakeEmbedder()
    async with batcher(keeper, provider) as (embedder, rows):
        waiting = [asyncio.ensure_future(rows.submit(RowRequest(row, content_hash(f"name {row}")))) for row in EVERY]
        await eventually(lambda: embedder.refusal, within_s=30, because="the right is revoked")
        assert cast(TableRefused, embedder.refusal).message.startswith("PostgreSQL says: permission denied")
        assert not any(row.done() for row in waiting)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (provider.calls, kept[1].states()) == ([], {})
    application.run(f'GRANT {right} ON businesses TO "{role}"')
    assert await keeper.keep() == ROWS


async def test_a_row_without_text_in_a_column_that_may_not_be_null_is_refused_alone(
    application: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, _ = kept
    await keeper.keep()
    application.run(
        "ALTER TABLE businesses ALTER embedding SET NOT NULL; UPDATE businesses SET name = ' ' WHERE id = 7"
    )
    application.run("UPDATE businesses SET name = 'name 8 new' WHERE id = 8")
    written = await Writer(keeper.store, clock=SystemClock()).write(
        [vector_write("7", " "), vector_write("8", "name 8 new")]
    )
    assert (set(written.refused), written.ids) == ({"7"}, {"8"})
    assert written.refused["7"].sqlstate == "23502"
    assert "embedding" in written.refused["7"].message
