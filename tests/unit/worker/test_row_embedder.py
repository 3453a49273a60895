"""A batch of rows becomes fresh: what each row needs, and that nobody's failure costs another row anything."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from embedding_worker import embedding
from embedding_worker.batching.batcher import Batcher
from embedding_worker.embedding import OutcomeKind, RowEmbedder, RowOutcome, RowRequest, decided
from embedding_worker.errors import (
    DatabaseUnavailable,
    EmbeddingError,
    InputRejected,
    ProviderThrottled,
    ProviderUnavailable,
    RowsLocked,
    RowsRefused,
)
from embedding_worker.providers.embedder import Vector
from embedding_worker.rows.store import PresentRow, RowStore, VectorWrite
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash
from tests.support.deadline import eventually
from tests.support.fake_provider import FakeEmbedder, fake_calls
from tests.support.kept_rows import fake_vector

EMBEDDED, BLANK_TEXT = OutcomeKind.EMBEDDED, OutcomeKind.BLANK_TEXT


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "FIRST_PAUSE_S", 0.001)


@dataclass
class MemoryStore:
    """Rows in memory, fenced as those in PostgreSQL are. What stands in `errors` is raised first, by name of the method."""

    texts: dict[str, str]
    up_to_date: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    errors: dict[str, list[EmbeddingError]] = field(default_factory=dict)
    vectors: dict[str, Vector | None] = field(default_factory=dict)
    reads: int = 0

    async def read(self, ids: Sequence[str]) -> dict[str, PresentRow]:
        self._fail("read")
        self.reads += 1
        return {
            row_id: PresentRow(row_id, self.texts[row_id], row_id in self.up_to_date)
            for row_id in ids
            if row_id in self.texts
        }

    async def write(self, rows: Sequence[VectorWrite]) -> set[str]:
        self._fail("write")
        if any(row.id in self.refused for row in rows):
            raise RowsRefused("DatabaseRefused", "PostgreSQL refuses the statement: CheckViolation (23514)")
        free = [row for row in rows if row.id not in self.locked]
        written = [row for row in free if content_hash(self.texts.get(row.id, "gone")) == row.content_hash]
        self.vectors |= {row.id: row.vector for row in written}
        self.up_to_date |= {row.id for row in written}
        return {row.id for row in written}

    def _fail(self, method: str) -> None:
        if self.errors.get(method):
            raise self.errors[method].pop(0)


def request(row_id: str, text: str) -> RowRequest:
    return RowRequest(row_id, content_hash(text))


@asynccontextmanager
async def batcher_of(
    store: MemoryStore, embedder: FakeEmbedder, *, max_items: int, too_long: TooLong = TooLong.TRUNCATE
) -> AsyncIterator[Batcher[RowRequest, RowOutcome]]:
    embedder_of_rows = RowEmbedder(cast(RowStore, store), fake_calls(embedder), too_long=too_long)
    async with Batcher(embedder_of_rows.embed_batch, max_items=max_items, linger_s=60) as batcher:
        yield batcher


async def outcomes(
    store: MemoryStore, embedder: FakeEmbedder, *requests: RowRequest, too_long: TooLong = TooLong.TRUNCATE
) -> list[OutcomeKind]:
    """What became of the requests of one batch."""
    async with asyncio.timeout(10), batcher_of(store, embedder, max_items=len(requests), too_long=too_long) as batcher:
        return [result.kind for result in await asyncio.gather(*map(batcher.submit, requests))]


def names(count: int) -> dict[str, str]:
    return {str(n): f"name {n}" for n in range(count)}


def requests(store: MemoryStore) -> list[RowRequest]:
    return [request(row_id, text) for row_id, text in store.texts.items()]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (None, OutcomeKind.ROW_DELETED),
        (PresentRow("1", "one", up_to_date=True), OutcomeKind.ALREADY_FRESH),
        (PresentRow("1", "edited", up_to_date=True), OutcomeKind.ALREADY_FRESH),
        (PresentRow("1", "edited", up_to_date=False), OutcomeKind.TEXT_CHANGED),
        (PresentRow("1", "", up_to_date=False), OutcomeKind.TEXT_CHANGED),
    ],
)
def test_a_row_that_needs_nothing_more_has_its_outcome(row: PresentRow | None, kind: OutcomeKind) -> None:
    settled = decided(request("1", "one"), row)
    assert isinstance(settled, RowOutcome)
    assert (settled.kind, settled.reason, settled.embed_ms) == (kind, kind.value, None)
    assert settled.message


def test_a_row_whose_text_was_seen_is_to_be_embedded() -> None:
    assert decided(request("1", "one"), PresentRow("1", "one", up_to_date=False)) == "one"


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_row_whose_text_is_blank_is_to_have_no_vector(text: str) -> None:
    row = decided(request("1", text), PresentRow("1", text, up_to_date=False))
    assert row == VectorWrite("1", content_hash(text), None)


async def test_a_batch_of_all_kinds_costs_one_call_for_those_that_need_it() -> None:
    store = MemoryStore(
        {"fresh": "f", "edited": "new", "blank": " ", "one": "1", "two": "2", "long": "x" * 1001}, up_to_date={"fresh"}
    )
    embedder = FakeEmbedder()
    kinds = await outcomes(
        store,
        embedder,
        request("fresh", "f"),
        request("one", "1"),
        request("deleted", "d"),
        request("edited", "old"),
        request("blank", " "),
        request("long", "x" * 1001),
        request("two", "2"),
        too_long=TooLong.REFUSE,
    )
    assert [kind.value for kind in kinds] == [
        *("AlreadyFresh", "Embedded", "RowDeleted", "TextChanged", "BlankText", "InputRejected", "Embedded")
    ]
    assert embedder.calls == [["1", "2"]]
    assert store.vectors == {"one": fake_vector("1"), "two": fake_vector("2"), "blank": None}


async def test_where_no_text_needs_it_no_call_is_made() -> None:
    store = MemoryStore({"1": "one", "2": ""}, up_to_date={"1"})
    embedder = FakeEmbedder()
    assert await outcomes(store, embedder, *requests(store)) == [OutcomeKind.ALREADY_FRESH, BLANK_TEXT]
    assert embedder.calls == []


async def test_a_text_that_is_too_long_is_cut_for_the_model_and_hashed_as_it_is() -> None:
    store = MemoryStore({"1": "x" * 2_000})
    embedder = FakeEmbedder()
    assert await outcomes(store, embedder, *requests(store)) == [EMBEDDED]
    assert embedder.calls == [["x" * 1_000]]


async def test_a_row_that_two_jobs_ask_for_is_settled_for_both() -> None:
    store = MemoryStore({"1": "one", "2": ""})
    twice = [*requests(store), *requests(store)]
    assert await outcomes(store, FakeEmbedder(), *twice) == [EMBEDDED, BLANK_TEXT, EMBEDDED, BLANK_TEXT]


async def test_an_outage_of_the_provider_is_waited_out_and_charged_to_nobody() -> None:
    store = MemoryStore(names(8))
    embedder = FakeEmbedder(failures=[ProviderUnavailable("away")] * 20)
    assert await outcomes(store, embedder, *requests(store)) == [EMBEDDED] * 8
    assert store.vectors == {row_id: fake_vector(text) for row_id, text in store.texts.items()}


async def test_a_provider_that_asks_for_a_rest_gets_it_and_then_the_same_call() -> None:
    store = MemoryStore(names(8))
    embedder = FakeEmbedder(failures=[ProviderThrottled("quota", retry_after_s=0)] * 2)
    assert await outcomes(store, embedder, *requests(store)) == [EMBEDDED] * 8
    assert [len(call) for call in embedder.calls] == [8, 8, 8]


async def test_a_text_that_the_provider_refuses_costs_the_others_nothing() -> None:
    class Picky(FakeEmbedder):
        async def embed(self, texts: Sequence[str]) -> list[Vector]:
            if "name 5" in texts:
                raise InputRejected("TooStrange", "the provider does not take it")
            return await super().embed(texts)

    store = MemoryStore(names(8))
    kinds = await outcomes(store, Picky(), *requests(store))
    assert kinds == [OutcomeKind.INPUT_REJECTED if n == 5 else EMBEDDED for n in range(8)]


async def test_an_outage_of_the_database_is_waited_out_without_a_second_call() -> None:
    store = MemoryStore(names(3))
    store.errors = {
        "read": [DatabaseUnavailable("away"), RowsLocked("locked")],
        "write": [RowsLocked("locked"), DatabaseUnavailable("away")],
    }
    embedder = FakeEmbedder()
    assert await outcomes(store, embedder, *requests(store)) == [EMBEDDED] * 3
    assert len(embedder.calls) == 1


async def test_a_locked_row_is_written_later_while_the_others_are_settled_at_once() -> None:
    store = MemoryStore(names(4), locked={"2"})
    embedder = FakeEmbedder()
    async with batcher_of(store, embedder, max_items=4) as batcher:
        submitted = [asyncio.create_task(batcher.submit(asked)) for asked in requests(store)]
        settled = await asyncio.gather(*(task for n, task in enumerate(submitted) if n != 2))
        assert [result.kind for result in settled] == [EMBEDDED] * 3
        seen = store.reads
        await eventually(
            lambda: store.reads > seen + 2, within_s=5, because="the locked row is looked at again and again"
        )
        assert not submitted[2].done()
        store.locked.clear()
        assert (await submitted[2]).kind is EMBEDDED
    assert len(embedder.calls) == 1


async def test_a_locked_row_keeps_no_other_batch_from_beginning() -> None:
    store = MemoryStore(names(6), locked={"0", "1", "2"})
    async with asyncio.timeout(10), batcher_of(store, FakeEmbedder(), max_items=1) as batcher:
        waiting = [asyncio.create_task(batcher.submit(asked)) for asked in requests(store)[:3]]
        for asked in requests(store)[3:]:
            assert (await batcher.submit(asked)).kind is EMBEDDED
        store.locked.clear()
        assert [result.kind for result in await asyncio.gather(*waiting)] == [EMBEDDED] * 3


@pytest.mark.parametrize(
    ("meanwhile", "kind"),
    [("edited", OutcomeKind.TEXT_CHANGED), (None, OutcomeKind.ROW_DELETED)],
)
async def test_what_became_of_a_row_while_it_was_embedded_is_its_outcome(
    meanwhile: str | None, kind: OutcomeKind
) -> None:
    store = MemoryStore(names(3))

    class Slow(FakeEmbedder):
        async def embed(self, texts: Sequence[str]) -> list[Vector]:
            if meanwhile is None:
                store.texts.pop("1", None)
            else:
                store.texts["1"] = meanwhile
            return await super().embed(texts)

    assert await outcomes(store, Slow(), *requests(store)) == [EMBEDDED, kind, EMBEDDED]
    assert "1" not in store.vectors


async def test_a_row_that_the_database_refuses_fails_alone() -> None:
    store = MemoryStore(names(8), refused={"3"})
    kinds = await outcomes(store, FakeEmbedder(), *requests(store))
    assert kinds == [OutcomeKind.FAILED if n == 3 else EMBEDDED for n in range(8)]


async def test_an_outcome_tells_how_long_the_call_took_where_there_was_one() -> None:
    store = MemoryStore({"1": "one", "2": ""})
    async with batcher_of(store, FakeEmbedder(), max_items=2) as batcher:
        embedded, blank = await asyncio.gather(*map(batcher.submit, requests(store)))
    assert embedded.embed_ms is not None
    assert embedded.embed_ms >= 0
    assert blank.embed_ms is None
