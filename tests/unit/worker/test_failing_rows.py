"""Rows that fail to become fresh: who is charged for it, with which reason and code, and who only waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from embedding_worker import embedding
from embedding_worker.batching.batcher import Batcher
from embedding_worker.embedding import OutcomeKind, RowEmbedder, RowOutcome, RowRequest
from embedding_worker.errors import (
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    RowsRefused,
)
from embedding_worker.providers.embedder import Vector
from embedding_worker.rows.store import PresentRow, RowStore, VectorWrite
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash
from tests.support.deadline import eventually
from tests.support.fake_provider import FakeEmbedder, fake_calls
from tests.support.kept_rows import fake_vector

AWAY = ProviderUnavailable("the server is away", code="503 UNAVAILABLE")


@dataclass
class FakeStore:
    """Rows in memory, with the fence of the real ones: a write counts only where the text still has its hash."""

    texts: dict[str, str] = field(default_factory=dict)
    vectors: dict[str, Vector | None] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    reads: int = 0

    async def read(self, ids: Sequence[str]) -> dict[str, PresentRow]:
        self.reads += 1
        return {row: PresentRow(row, self.texts[row], row in self.fresh) for row in ids if row in self.texts}

    async def write(self, rows: Sequence[VectorWrite]) -> set[str]:
        if self.refused & {row.id for row in rows}:
            raise RowsRefused("DatabaseRefused", "PostgreSQL refuses the statement: CheckViolation (23514)")
        written = {
            row.id: row.vector
            for row in rows
            if row.id not in self.locked and content_hash(self.texts.get(row.id, "")) == row.content_hash
        }
        self.vectors |= written
        self.fresh |= set(written)
        return set(written)


class Provider(FakeEmbedder):
    """Fails while `fails` says so of the texts of a call; `meanwhile` happens during each call."""

    def __init__(self) -> None:
        super().__init__(max_texts=64)
        self.fails: Callable[[Sequence[str]], ProviderError | None] = lambda texts: None
        self.meanwhile: Callable[[], None] = lambda: None

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        vectors = await super().embed(texts)
        self.meanwhile()
        if (error := self.fails(texts)) is not None:
            raise error
        return vectors


@dataclass
class System:
    store: FakeStore
    provider: Provider
    batcher: Batcher[RowRequest, RowOutcome] | None = None

    def submit(self, *ids: str) -> list[asyncio.Task[RowOutcome]]:
        """One batch of these rows, each with the text that it has now."""
        assert self.batcher is not None
        return [
            asyncio.create_task(self.batcher.submit(RowRequest(row, content_hash(self.store.texts.get(row, "")))))
            for row in ids
        ]

    async def freshen(self, *ids: str) -> list[RowOutcome]:
        async with asyncio.timeout(5):
            return list(await asyncio.gather(*self.submit(*ids)))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take no time that a test would notice."""
    monkeypatch.setattr(embedding, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(embedding, "LONGEST_PAUSE_S", 0.004)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    made = System(FakeStore(), Provider())
    embedder_of_rows = RowEmbedder(cast(RowStore, made.store), fake_calls(made.provider), too_long=TooLong.TRUNCATE)
    async with Batcher(embedder_of_rows.embed_batch, max_items=64, linger_s=0.01) as made.batcher:
        yield made


def with_rows(system: System, count: int) -> list[str]:
    system.store.texts = {str(n): f"text {n}" for n in range(count)}
    return list(system.store.texts)


def kinds(outcomes: Sequence[RowOutcome]) -> list[OutcomeKind]:
    return [outcome.kind for outcome in outcomes]


async def test_every_row_gets_the_vector_of_its_own_text_in_one_call(system: System) -> None:
    ids = with_rows(system, 64)
    outcomes = await system.freshen(*ids)
    assert set(kinds(outcomes)) == {OutcomeKind.EMBEDDED}
    assert system.store.vectors == {row: fake_vector(text) for row, text in system.store.texts.items()}
    assert len(system.provider.calls) == 1


async def test_a_row_that_somebody_else_has_made_fresh_during_the_call_is_fresh(system: System) -> None:
    with_rows(system, 1)
    system.store.locked = {"0"}
    system.provider.meanwhile = lambda: system.store.fresh.add("0")
    assert kinds(await system.freshen("0")) == [OutcomeKind.ALREADY_FRESH]


async def test_a_poison_text_among_neighbours_is_rejected_and_delays_nobody(system: System) -> None:
    ids = with_rows(system, 64)
    poison = InputRejected("Blocked", "the provider refuses the text", code="400 INVALID_ARGUMENT")
    system.provider.fails = lambda texts: poison if "text 17" in texts else None
    outcomes = await system.freshen(*ids)
    assert kinds(outcomes) == [OutcomeKind.INPUT_REJECTED if row == "17" else OutcomeKind.EMBEDDED for row in ids]
    refused = outcomes[17]
    assert (refused.reason, refused.message, refused.code) == ("Blocked", poison.message, "400 INVALID_ARGUMENT")


async def test_a_row_that_fails_while_its_neighbours_do_not_is_charged_with_the_providers_code(system: System) -> None:
    ids = with_rows(system, 8)
    system.provider.fails = lambda texts: AWAY if "text 3" in texts else None
    outcomes = await system.freshen(*ids)
    assert kinds(outcomes) == [OutcomeKind.FAILED if row == "3" else OutcomeKind.EMBEDDED for row in ids]
    charged = outcomes[3]
    assert (charged.reason, charged.message, charged.code) == (
        "ProviderUnavailable",
        "the server is away",
        "503 UNAVAILABLE",
    )


async def test_a_row_without_neighbours_that_fails_is_charged(system: System) -> None:
    with_rows(system, 1)
    system.provider.fails = lambda texts: AWAY
    (charged,) = await system.freshen("0")
    assert (charged.kind, charged.code) == (OutcomeKind.FAILED, "503 UNAVAILABLE")


@pytest.mark.parametrize(
    "error",
    [AWAY, ProviderThrottled("busy", retry_after_s=0), ProviderMisconfigured("wrong key")],
    ids=lambda error: type(error).__name__,
)
async def test_a_failure_that_all_share_settles_nobody_until_it_is_over_and_then_all_are_embedded(
    system: System, error: ProviderError
) -> None:
    ids = with_rows(system, 16)
    system.provider.fails = lambda texts: error
    submitted = system.submit(*ids)
    await eventually(lambda: system.store.reads > 3, within_s=5, because="the rows are looked at again and again")
    assert not any(task.done() for task in submitted)
    system.provider.fails = lambda texts: None
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*submitted)
    assert set(kinds(outcomes)) == {OutcomeKind.EMBEDDED}
    assert system.store.vectors == {row: fake_vector(text) for row, text in system.store.texts.items()}


async def test_a_row_that_is_edited_during_an_outage_is_not_embedded_with_its_old_text(system: System) -> None:
    with_rows(system, 2)
    system.provider.fails = lambda texts: AWAY
    submitted = system.submit("0", "1")
    await eventually(lambda: system.store.reads > 1, within_s=5, because="the rows are looked at again and again")
    system.store.texts["1"] = "edited meanwhile"
    system.provider.fails = lambda texts: None
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*submitted)
    assert kinds(outcomes) == [OutcomeKind.EMBEDDED, OutcomeKind.TEXT_CHANGED]


async def test_a_locked_row_whose_text_changes_under_the_lock_is_not_written(system: System) -> None:
    with_rows(system, 2)
    system.store.locked = {"1"}
    free, locked = system.submit("0", "1")
    async with asyncio.timeout(5):
        await free
    system.store.texts["1"] = "edited under the lock"
    async with asyncio.timeout(5):
        assert (await locked).kind is OutcomeKind.TEXT_CHANGED
    assert set(system.store.vectors) == {"0"}


async def test_a_row_that_the_database_refuses_is_charged_and_its_neighbours_are_written(system: System) -> None:
    ids = with_rows(system, 8)
    system.store.refused = {"3"}
    outcomes = await system.freshen(*ids)
    assert kinds(outcomes) == [OutcomeKind.FAILED if row == "3" else OutcomeKind.EMBEDDED for row in ids]
    assert outcomes[3].reason == "DatabaseRefused"
    assert len(system.provider.calls) == 1


async def test_no_outcome_holds_a_text(system: System) -> None:
    system.store.texts = {str(n): f"secret {n}" for n in range(4)}
    system.store.refused = {"0"}
    poison = InputRejected("Blocked", "the provider refuses the text")
    system.provider.fails = lambda texts: poison if "secret 1" in texts else None
    said: list[Any] = await system.freshen("0", "1", "2", "3", "gone")
    assert "secret" not in repr(said)
