"""Vectors that are sent in PostgreSQL's binary format are stored as the same text would be, and refused as it would be."""

import random

import pytest

from embedding_worker.clock import SystemClock
from embedding_worker.rows.records import VectorWrite
from embedding_worker.text import content_hash
from embedding_worker.writer import Writer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, vector_write

TYPES = {
    "vector(3)": '"public"."vector"',
    "halfvec(3)": '"public"."halfvec"',
    "real[]": "real[]",
    "double precision[]": "double precision[]",
}
VECTORS = [[0.1, -2.5e-7, 1234.5], [1e-30, 0.0, -0.0], [65504.0, 1 / 3, 2e-8]]


async def kept_with(application: Application, keep: Keep, declared: str, rows: int) -> Keeper:
    application.run(f"CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding {declared})")
    application.run(f"INSERT INTO businesses SELECT i, 'name ' || i FROM generate_series(1, {rows}) i")
    keeper, _ = await keep()
    return keeper


@pytest.mark.parametrize("declared", TYPES)
async def test_a_vector_is_stored_as_its_text_would_be(application: Application, keep: Keep, declared: str) -> None:
    numbers = random.Random(19)  # noqa: S311  # no secret depends on it
    vectors = VECTORS + [[numbers.gauss(0, 1) for _ in range(3)] for _ in range(50)]
    keeper = await kept_with(application, keep, declared, len(vectors) + 1)
    writes = [VectorWrite(f"{n}", content_hash(f"name {n}"), vector) for n, vector in enumerate(vectors, 1)]
    blank = len(vectors) + 1
    application.run("UPDATE businesses SET name = '' WHERE id = %s", blank)
    written = await keeper.store.write([VectorWrite(f"{blank}", content_hash(""), None), *writes])
    assert len(written.written) == blank
    assert (await keeper.store.write([VectorWrite(f"{blank}", content_hash(""), None)])).written == {f"{blank}"}
    opening, closing = "{}" if declared.endswith("[]") else "[]"
    for write in writes:
        text = opening + ",".join(map(repr, write.vector or ())) + closing
        same = f"SELECT embedding::text = (%s::{declared.partition('(')[0]})::text FROM businesses WHERE id = %s"
        assert application.run(same, text, int(write.id)) == [(True,)], text
    assert application.run("SELECT embedding FROM businesses WHERE id = %s", blank) == [(None,)]


@pytest.mark.parametrize(("declared", "number"), [("vector(3)", 1e39), ("halfvec(3)", 7e4), ("real[]", 1e39)])
async def test_a_number_out_of_range_is_the_failure_of_its_row_alone(
    application: Application, keep: Keep, declared: str, number: float
) -> None:
    keeper = await kept_with(application, keep, declared, 5)
    writes = [vector_write(f"{n}", f"name {n}") for n in range(1, 6)]
    writes[2] = VectorWrite("3", writes[2].content_hash, [1.0, number, 1.0])
    written = await Writer(keeper.store, clock=SystemClock()).write(writes)
    assert written.ids == {"1", "2", "4", "5"}
    assert list(written.refused) == ["3"]
    assert written.refused["3"].sqlstate.startswith("22")


@pytest.mark.parametrize("declared", TYPES)
async def test_another_vector_is_tried_without_being_kept(application: Application, keep: Keep, declared: str) -> None:
    keeper = await kept_with(application, keep, declared, 2)
    assert (await keeper.store.try_write(["1", "2"], [1.0, 2.0, 3.0])).written == {"1", "2"}
    assert application.run("SELECT count(embedding) FROM businesses") == [(0,)]


async def test_vectors_are_written_after_the_extension_was_created_again(application: Application, keep: Keep) -> None:
    """The type has another number then, as on another server with the same tables."""
    keeper = await kept_with(application, keep, "vector(3)", 2)
    assert (await keeper.store.write([vector_write("1", "name 1")])).written == {"1"}
    application.run("DROP EXTENSION vector CASCADE; CREATE EXTENSION vector SCHEMA public")
    application.run("ALTER TABLE businesses ADD COLUMN embedding vector(3)")
    assert (await keeper.store.write([vector_write("2", "name 2")])).written == {"2"}
