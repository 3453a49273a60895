"""Vectors that a column held before its source existed are taken over, in the first audit of the first configuration only."""

import dataclasses

import psycopg
import pytest

from embedding_worker.rows.adoption import AdoptingStatements
from embedding_worker.rows.database import Database
from embedding_worker.rows.pause import pause_triggers, record_resumed
from embedding_worker.rows.store import RowStore
from embedding_worker.source import ChangeDetection, ExistingVectors, Model, SourceConfig
from embedding_worker.text import content_hash
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import BUSINESSES, MODEL, Application, Keeper, run, source_config

ADOPT, REPLACE = ExistingVectors.ADOPT, ExistingVectors.REPLACE
FILL = "INSERT INTO businesses (name, embedding) SELECT 'name ' || i, '[1,2,3]' FROM generate_series(1, %s) i"
LOADED = (
    "ALTER TABLE businesses DISABLE TRIGGER USER; INSERT INTO businesses (name, embedding) VALUES ('later', '[4,5,6]')"
)


@pytest.fixture
def filled(businesses: Application) -> Application:
    """Businesses 1 to 5, each with a vector that another system has made."""
    businesses.run(FILL, 5)
    return businesses


def due(keeper: Keeper, application: Application) -> list[str]:
    """The ids of the rows with a mark."""
    return [row[0] for row in application.run(f"SELECT DISTINCT id FROM {keeper.statements.marks} ORDER BY id")]


async def test_a_row_with_a_vector_gets_a_state_and_no_mark(filled: Application, keep: Keep) -> None:
    keeper, oracle = await keep(existing=ADOPT)
    assert await keeper.audit(page=2) == 0
    assert oracle.marks() == []
    assert oracle.states() == {str(n): (content_hash(f"name {n}"), "fake@3") for n in range(1, 6)}
    assert await keeper.store.record_filled() == 5
    assert await keeper.audit() == 0, "the audits that follow find the rows up to date"


async def test_nothing_of_the_table_is_written(filled: Application, keep: Keep) -> None:
    versions = "SELECT id, xmin::text, xmax::text, ctid::text FROM businesses ORDER BY id"
    before = filled.run(versions)
    keeper, _ = await keep(existing=ADOPT)
    await keeper.audit()
    assert filled.run(versions) == before


async def test_an_edit_afterwards_makes_its_row_due_and_no_other(filled: Application, keep: Keep) -> None:
    keeper, _ = await keep(existing=ADOPT)
    await keeper.audit()
    filled.run("UPDATE businesses SET name = 'edited' WHERE id = 3")
    filled.run("UPDATE businesses SET phone = '1' WHERE id = 4")
    assert [(row.id, row.up_to_date) for row in await keeper.sweep()] == [("3", False)]


@pytest.mark.parametrize(
    "row",
    ["('x', NULL)", "('', '[1,2,3]')", "(NULL, '[1,2,3]')", "(E' \\n', '[1,2,3]')", "('x', '[0,0,0]')"],
    ids=["no vector", "an empty text", "no text", "a blank text", "a vector of zeros"],
)
async def test_what_cannot_be_the_vector_of_a_text_is_due(businesses: Application, keep: Keep, row: str) -> None:
    businesses.run(FILL, 1)
    businesses.run(f"INSERT INTO businesses (name, embedding) VALUES {row}")
    keeper, oracle = await keep(existing=ADOPT)
    assert await keeper.audit() == 1
    assert (oracle.marks(), set(oracle.states())) == (["2"], {"1"})
    await keeper.keep()
    assert oracle.wrong() == ["1"], "the vector of the adopted row is the one that it had"


@pytest.mark.parametrize("kind", ["vector", "halfvec(3)", "real[]", "double precision[]"])
async def test_each_type_of_column_is_adopted(application: Application, keep: Keep, kind: str) -> None:
    application.run(BUSINESSES.replace("vector(3)", kind))
    opening, closing = "{}" if "[]" in kind else "[]"
    for numbers in ("1,2,3", "0,-0,0", "0,0,1"):
        application.run("INSERT INTO businesses (name, embedding) VALUES ('x', %s)", opening + numbers + closing)
    keeper, oracle = await keep(existing=ADOPT)
    await keeper.audit()
    assert (oracle.marks(), set(oracle.states())) == (["2"], {"1", "3"})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("vector", "[1,2]"),
        ("real[]", "{1,2}"),
        ("real[]", "{1,2,NULL}"),
        ("real[]", "{1,2,3,NULL}"),
        ("real[]", "{1,2,NaN}"),
        ("real[]", "{1,2,Infinity}"),
        ("double precision[]", "{{1,2,3}}"),
        ("double precision[]", "{}"),
    ],
)
async def test_a_value_of_another_form_than_the_models_is_due(
    application: Application, keep: Keep, kind: str, value: str
) -> None:
    application.run(BUSINESSES.replace("vector(3)", kind))
    application.run("INSERT INTO businesses (name, embedding) VALUES ('x', %s)", value)
    keeper, oracle = await keep(existing=ADOPT)
    assert await keeper.audit() == 1
    assert oracle.states() == {}


async def test_ids_in_another_collation_are_adopted(application: Application, keep: Keep) -> None:
    application.run('CREATE TABLE businesses (id text COLLATE "C" PRIMARY KEY, name text, embedding vector(3))')
    application.run("INSERT INTO businesses SELECT 'id ' || i, 'x', '[1,2,3]' FROM generate_series(1, 5) i")
    application.run("INSERT INTO businesses VALUES ('id 6', 'x', NULL)")
    keeper, oracle = await keep(existing=ADOPT)
    assert await keeper.audit(page=2) == 1
    assert (oracle.marks(), len(oracle.states())) == (["id 6"], 5)


async def test_a_row_whose_text_fails_is_due_and_the_others_of_its_page_are_adopted(
    filled: Application, keep: Keep
) -> None:
    filled.run("INSERT INTO businesses (name) VALUES ('no vector')")
    keeper, oracle = await keep(text="name || 1 / (id - 3)", existing=ADOPT)
    assert await keeper.audit() == 2
    assert (sorted(oracle.marks()), set(oracle.states())) == (["3", "6"], {"1", "2", "4", "5"})
    assert await keeper.store.record_filled() == 4


async def test_an_edit_before_its_page_is_read_wins(filled: Application, keep: Keep) -> None:
    keeper, oracle = await keep(existing=ADOPT)
    filled.run("UPDATE businesses SET name = 'edited' WHERE id = 3")
    assert await keeper.audit() == 0
    assert (oracle.marks(), set(oracle.states())) == (["3"], {"1", "2", "4", "5"})
    assert [(row.id, row.edited, row.up_to_date) for row in await keeper.sweep()] == [("3", True, False)]


async def test_a_row_that_is_inserted_with_a_vector_meanwhile_is_due(filled: Application, keep: Keep) -> None:
    keeper, oracle = await keep(existing=ADOPT)
    filled.run("INSERT INTO businesses (name, embedding) VALUES ('new', '[7,8,9]')")
    assert await keeper.audit() == 0
    assert (oracle.marks(), len(oracle.states())) == (["6"], 5)


async def test_an_edit_that_commits_while_its_page_is_read_wins(filled: Application, keep: Keep) -> None:
    """The page sees the old text and no mark, and its row is adopted with the old text: the mark of the edit finds that."""
    keeper, oracle = await keep(existing=ADOPT)
    with filled.transaction() as connection:
        run(connection, "UPDATE businesses SET name = 'edited' WHERE id = 3")
        assert await keeper.audit() == 0
        assert oracle.states()["3"][0] == content_hash("name 3")
    assert [(row.id, row.up_to_date) for row in await keeper.sweep()] == [("3", False)]
    await keeper.keep()
    assert "3" not in oracle.wrong()


async def test_a_row_that_another_process_writes_meanwhile_keeps_what_that_one_has_recorded(
    filled: Application, keep: Keep
) -> None:
    keeper, oracle = await keep(existing=ADOPT)
    with psycopg.connect(filled.url) as connection:
        run(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        run(connection, "SELECT FROM businesses")
        filled.run("UPDATE businesses SET name = 'edited' WHERE id = 3")
        await keeper.keep()
        adopting = AdoptingStatements(keeper.statements.config, keeper.statements.layout)
        sql = adopting.adopt.replace("$1", "'{1,3}'").replace("$2", "2").replace("$3", "'fake@3'")
        with pytest.raises(psycopg.errors.SerializationFailure):
            run(connection, sql)
    assert oracle.states() == {"3": (content_hash("edited"), "fake@3")}


async def test_after_a_restart_in_the_middle_the_others_are_adopted(filled: Application, keep: Keep) -> None:
    first, _ = await keep(existing=ADOPT)
    assert (await first.store.audit(after_id=None, limit=2)).last_id == "2"
    second, oracle = await keep(existing=ADOPT)
    assert await second.audit(page=2) == 0
    assert (oracle.marks(), len(oracle.states())) == ([], 5)
    assert await second.store.record_filled() == 5, "those before the restart are counted too"


async def test_after_the_first_audit_nothing_is_adopted(filled: Application, keep: Keep) -> None:
    keeper, oracle = await keep(existing=ADOPT)
    await keeper.audit()
    await keeper.store.record_filled()
    filled.run(LOADED)
    assert await keeper.audit() == 1
    again, _ = await keep(existing=ADOPT)
    filled.run(LOADED)
    assert await again.audit() == 1
    assert oracle.marks() == ["6", "7"]
    assert await again.store.record_filled() is None


async def test_a_process_that_does_not_know_of_the_end_of_the_first_audit_adopts_nothing(
    filled: Application, keep: Keep
) -> None:
    one, oracle = await keep(existing=ADOPT)
    other, _ = await keep(existing=ADOPT)
    await other.audit()
    await other.store.record_filled()
    filled.run(LOADED)
    assert await one.audit() == 1
    assert (oracle.marks(), len(oracle.states())) == (["6"], 5)


async def test_a_source_that_replaces_vectors_embeds_every_row(filled: Application, keep: Keep) -> None:
    keeper, oracle = await keep(existing=REPLACE)
    assert await keeper.audit() == 5
    assert await keeper.store.record_filled() is None
    again, _ = await keep(existing=ADOPT)
    await again.audit()
    assert len(due(again, filled)) == 5, "the first audit was complete before Adopt was set"
    assert oracle.states() == {}


async def test_adopt_that_is_set_during_the_first_audit_holds_for_the_rows_without_a_mark(
    filled: Application, keep: Keep
) -> None:
    replacing, _ = await keep(existing=REPLACE)
    await replacing.store.audit(after_id=None, limit=2)
    keeper, oracle = await keep(existing=ADOPT)
    assert await keeper.audit() == 0
    assert (oracle.marks(), set(oracle.states())) == (["1", "2"], {"3", "4", "5"})


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(MODEL, provider="other"),
        dataclasses.replace(MODEL, api_key_ref="team-b/key"),
        dataclasses.replace(MODEL, name="other", same_vectors_as=MODEL.fingerprint),
    ],
)
async def test_another_provider_of_the_same_vectors_goes_on_with_adopting(
    filled: Application, keep: Keep, other: Model
) -> None:
    first, _ = await keep(existing=ADOPT)
    await first.store.audit(after_id=None, limit=2)
    second, oracle = await keep(existing=ADOPT, model=other)
    assert await second.audit() == 0
    assert (oracle.marks(), len(oracle.states())) == ([], 5)


async def test_an_approved_change_of_the_model_embeds_every_row(filled: Application, keep: Keep) -> None:
    first, _ = await keep(existing=ADOPT)
    await first.store.audit(after_id=None, limit=2)
    other, oracle = await keep(existing=ADOPT, model=dataclasses.replace(MODEL, name="other"))
    assert await other.audit() == 5
    assert len(oracle.marks()) == 5
    back, _ = await keep(existing=ADOPT)
    await back.audit()
    assert len(oracle.states()) == 2, "the change back is not the first configuration either"


async def test_where_edits_may_be_lost_nothing_is_adopted(filled: Application, keep: Keep, rows: Database) -> None:
    keeper, _ = await keep(existing=ADOPT)
    await pause_triggers(rows, keeper.statements.config.at)
    filled.run("UPDATE businesses SET name = 'edited' WHERE id = 3")
    await record_resumed(rows, keeper.statements.config.at)
    again, oracle = await keep(existing=ADOPT)
    assert await again.audit() == 5
    assert oracle.states() == {}


async def test_without_triggers_nothing_is_adopted(filled: Application, keep: Keep) -> None:
    keeper, oracle = await keep(existing=ADOPT, detection=ChangeDetection.AUDIT)
    assert await keeper.audit() == 5
    assert oracle.states() == {}


async def test_two_columns_of_a_table_are_adopted_each_by_its_own_source(
    filled: Application, keep: Keep, rows: Database
) -> None:
    filled.run("ALTER TABLE businesses ADD COLUMN embedding_v2 vector(2)")
    filled.run("UPDATE businesses SET embedding_v2 = '[1,2]' WHERE id <> 4")
    first, _ = await keep(existing=ADOPT)
    model = dataclasses.replace(MODEL, name="second", dimensions=2)
    second = await Keeper.prepare(rows, source_config(embedding_column="embedding_v2", model=model, existing=ADOPT))
    assert (await first.audit(), await second.audit()) == (0, 1)
    assert due(second, filled) == ["4"]


async def test_what_would_be_embedded_does_not_include_what_would_be_adopted(
    filled: Application, keep: Keep, rows: Database
) -> None:
    filled.run(
        "INSERT INTO businesses (name, embedding) VALUES ('four', NULL), ('seven b', '[0,0,0]'), ('', '[1,2,3]')"
    )
    adopting, replacing = source_config(existing=ADOPT), source_config(existing=REPLACE)

    async def would_embed(config: SourceConfig) -> int:
        return (await (await RowStore.inspect(rows, config)).would_embed())[0]

    assert (await would_embed(adopting), await would_embed(replacing)) == (2, 7)
    keeper, _ = await keep(existing=ADOPT)
    await keeper.store.audit(after_id=None, limit=2)
    assert await would_embed(adopting) == 2
    other = dataclasses.replace(adopting, model=dataclasses.replace(MODEL, name="other"))
    assert await would_embed(other) == 7, "a changed model is not of the first configuration"
    await keeper.audit()
    await keeper.store.record_filled()
    filled.run(LOADED)
    assert await would_embed(adopting) == 3


async def test_a_text_that_fails_does_not_hide_what_would_be_adopted(filled: Application, rows: Database) -> None:
    store = await RowStore.inspect(rows, source_config(text="name || 1 / (id - 3)", existing=ADOPT))
    assert [row.id for row in (await store.preview_due(after_id=None, limit=100)).due] == ["3"]
