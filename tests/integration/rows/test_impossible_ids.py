"""Ids that the id column can't hold: no statement fails because of one, and its job gets an outcome of its own."""

import asyncio
from dataclasses import replace

import pytest

from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import SystemClock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest, decider
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash
from tests.integration.rows.conftest import Keep
from tests.support.fake_provider import FakeEmbedder, fake_calls
from tests.support.kept_rows import Application, Keeper, Oracle, vector_write

UUID = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
TYPES = {
    "bigint": ("7", ["no-number", "007", "9223372036854775808", "a\0b"]),
    "integer": ("7", ["no-number", "2147483648"]),
    "uuid": (UUID, ["no-uuid", UUID.upper()]),
    "text": ("seven", ["a\0b", "\ud800"]),
    "smallint": ("7", ["32768", "007"]),
    "bpchar": ("seven", ["seven ", "a\0b"]),
}


@pytest.fixture(params=TYPES)
def id_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def kept(application: Application, keep: Keep, id_type: str) -> tuple[Keeper, Oracle]:
    application.run(f"CREATE TABLE businesses (id {id_type} PRIMARY KEY, name text, embedding real[])")
    keeper, oracle = await keep(text="name")
    application.run("INSERT INTO businesses (id, name) VALUES (%s, 'one')", TYPES[id_type][0])
    return keeper, oracle


async def test_no_statement_fails_because_of_an_id_that_can_not_exist(
    kept: tuple[Keeper, Oracle], id_type: str
) -> None:
    (keeper, oracle), (possible, impossible) = kept, TYPES[id_type]
    store, ids = keeper.store, [*impossible, possible]
    (due,) = await store.sweep(leave_out=impossible, limit=10)
    assert due.id == possible
    assert await store.sweep(leave_out=ids, limit=10) == []
    assert [mark.id for mark in await store.newer_marks(dict.fromkeys(ids, 0))] == [possible]
    assert await store.newer_marks(dict.fromkeys(impossible, 0)) == []
    assert set(await keeper.read(ids)) == {possible}
    assert (await store.counts(dead_letters=impossible)).due_without_dead_letter
    assert not (await store.counts(dead_letters=ids)).due_without_dead_letter
    assert await keeper.write([vector_write(row_id, "one") for row_id in ids]) == {possible}
    await store.clear(ids)
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_job_for_such_an_id_is_settled_and_its_neighbours_are_embedded(
    kept: tuple[Keeper, Oracle], id_type: str
) -> None:
    (keeper, oracle), (possible, impossible) = kept, TYPES[id_type]
    clock, provider = SystemClock(), FakeEmbedder()
    calls = fake_calls(provider, clock=clock)
    decide = decider(max_text_bytes=calls.max_text_bytes, too_long=TooLong.TRUNCATE)
    row_embedder = RowEmbedder(keeper.store, calls, decide=decide, clock=clock)
    requests = [RowRequest(row_id, content_hash("one")) for row_id in (*impossible, possible)]
    async with Batcher[RowRequest, RowOutcome](row_embedder.embed_batch, max_items=10, clock=clock) as batcher:
        *refused, embedded = await asyncio.gather(*map(batcher.submit, requests))
    assert embedded.kind is OutcomeKind.EMBEDDED
    assert {outcome.kind for outcome in refused} == {OutcomeKind.ID_INVALID}
    assert refused[0].message == (
        f"the id {impossible[0]!r} can't be one of public.businesses.id, which is {id_type}: delete this job"
    )
    assert provider.calls == [["one"]]
    assert oracle.wrong() == []
    assert replace(refused[0], message="") == RowOutcome(OutcomeKind.ID_INVALID, "IdInvalid", "")
