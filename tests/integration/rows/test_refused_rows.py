"""A row that the database refuses to change is found, and keeps none of the others from becoming fresh."""

import asyncio
import traceback

import pytest

from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import SystemClock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.errors import RowsRefused
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest, decider
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash
from embedding_worker.writer import Writer
from tests.integration.rows.conftest import Keep
from tests.support.fake_provider import FakeEmbedder, fake_calls
from tests.support.kept_rows import Application, Keeper, Oracle, vector_write

ROWS = 40
POISON = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'the secret of %', NEW.name; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON businesses FOR EACH ROW WHEN (OLD.id IN (7, 8, 33)) EXECUTE FUNCTION refuse()
"""
BROKEN_CONSTRAINT = "ALTER TABLE businesses ADD CONSTRAINT named CHECK (id NOT IN (7, 8, 33)) NOT VALID"
REFUSED = {"7", "8", "33"}
OTHERS = {str(n) for n in range(1, ROWS + 1)} - REFUSED


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    keeper, oracle = await keep(text="name")
    businesses.run("INSERT INTO businesses (name) SELECT 'name ' || i FROM generate_series(1, %s) i", ROWS)
    return keeper, oracle


@pytest.mark.parametrize("refusal", [POISON, BROKEN_CONSTRAINT], ids=["a trigger", "a constraint"])
async def test_one_statement_is_refused_as_a_whole(
    businesses: Application, kept: tuple[Keeper, Oracle], refusal: str
) -> None:
    keeper, oracle = kept
    businesses.run(refusal)
    with pytest.raises(RowsRefused) as refused:
        await keeper.write([vector_write(str(n), f"name {n}") for n in (6, 7)])
    assert "name 7" not in "".join(traceback.format_exception(refused.value))
    assert {"6", "7"} <= set(oracle.marks())


@pytest.mark.parametrize("refusal", [POISON, BROKEN_CONSTRAINT], ids=["a trigger", "a constraint"])
async def test_the_writer_bisects_a_statement_down_to_the_refused_rows(
    businesses: Application, kept: tuple[Keeper, Oracle], refusal: str
) -> None:
    keeper, oracle = kept
    businesses.run(refusal)
    written = await Writer(keeper.store, clock=SystemClock()).write(
        [vector_write(str(n), f"name {n}") for n in range(1, ROWS + 1)]
    )
    assert written.ids == OTHERS
    assert set(written.refused) == REFUSED
    assert set(oracle.marks()) == REFUSED


async def test_a_batch_settles_its_other_rows_and_its_culprits_fail_alone(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run(POISON)
    clock = SystemClock()
    calls = fake_calls(FakeEmbedder(), clock=clock)
    decide = decider(max_text_bytes=calls.max_text_bytes, too_long=TooLong.TRUNCATE)
    row_embedder = RowEmbedder(keeper.store, calls, decide=decide, clock=clock)
    async with Batcher[RowRequest, RowOutcome](row_embedder.embed_batch, max_items=ROWS, clock=clock) as batcher:
        requests = [RowRequest(str(n), content_hash(f"name {n}")) for n in range(1, ROWS + 1)]
        results = await asyncio.gather(*map(batcher.submit, requests))
    outcomes = {request.id: result for request, result in zip(requests, results, strict=True)}
    assert {row_id for row_id, result in outcomes.items() if result.kind is OutcomeKind.EMBEDDED} == OTHERS
    assert {outcomes[row_id].kind for row_id in REFUSED} == {OutcomeKind.FAILED}
    assert outcomes["7"].message == "PostgreSQL refuses the statement: RaiseException (P0001)"
    assert set(oracle.wrong()) == REFUSED


async def test_a_refused_row_becomes_fresh_once_the_cause_is_gone(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run(POISON)
    await Writer(keeper.store, clock=SystemClock()).write(
        [vector_write(str(n), f"name {n}") for n in range(1, ROWS + 1)]
    )
    businesses.run("DROP TRIGGER refuse ON businesses")
    assert await keeper.keep() == len(REFUSED)
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_an_update_that_the_application_suppresses_does_not_count_as_written(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    businesses.run("CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$")
    businesses.run(
        "CREATE TRIGGER suppress BEFORE UPDATE ON businesses FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION suppress()"
    )
    assert await keeper.write([vector_write(str(n), f"name {n}") for n in (6, 7)]) == {"6"}
    assert "7" in oracle.marks()
    assert "7" not in oracle.states()


async def test_a_text_that_a_trigger_rewrites_while_we_write_stays_due(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    """Written is the vector of the text that was; the text that came of it has a mark of its own."""
    keeper, oracle = kept
    businesses.run(
        "CREATE FUNCTION trim_name() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN NEW.name := replace(NEW.name, 'name ', ''); RETURN NEW; END$$"
    )
    businesses.run("CREATE TRIGGER trim_name BEFORE UPDATE ON businesses FOR EACH ROW EXECUTE FUNCTION trim_name()")
    assert await keeper.write([vector_write("6", "name 6")]) == {"6"}
    assert "6" in oracle.marks()
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])
