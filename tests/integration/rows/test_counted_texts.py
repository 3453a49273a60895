"""Every text is counted before it is sent: what the provider's server received equals what the usage table says."""

import asyncio
from collections.abc import Iterator

import pytest

from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import SystemClock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest
from embedding_worker.providers.calls import ProviderCalls
from embedding_worker.providers.gemini import GeminiEmbedder
from embedding_worker.source import Model, TooLong
from embedding_worker.text import content_hash
from hack.provider_server.process import FakeGemini
from tests.integration.rows.conftest import Keep
from tests.support.deadline import eventually
from tests.support.kept_rows import Application, Keeper

pytest.importorskip("google.generativeai")

MODEL = Model("gemini", "gemini-embedding-001", 3)
KEY = "k3y-of-Somebody"
NAMES = [f"POISON {n}" if n in (7, 33) else f"name {n}" for n in range(1, 41)]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGemini]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeGemini(tmp_path_factory.mktemp("fake-gemini"), api_key=KEY) as started:
        yield started


@pytest.fixture
async def keeper(businesses: Application, keep: Keep) -> Keeper:
    """Forty rows, two of whose texts the server rejects."""
    keeper, _ = await keep(text="name", model=MODEL)
    for name in NAMES:
        businesses.run("INSERT INTO businesses (name) VALUES (%s)", name)
    return keeper


def calls_of(keeper: Keeper, server: FakeGemini, *, most_a_day: int) -> ProviderCalls:
    embedder = GeminiEmbedder(MODEL, api_key=KEY, endpoint=server.url)

    async def acquire(texts: int, tokens: int) -> int:
        return await keeper.store.acquire_texts(texts, tokens=tokens, most_a_day=most_a_day)

    return ProviderCalls(embedder, acquire_texts=acquire, clock=SystemClock())


async def used(keeper: Keeper) -> int:
    found = await keeper.store.used_today()
    return found.texts if found else 0


async def test_texts_of_bisected_calls_are_counted_too(keeper: Keeper, server: FakeGemini) -> None:
    calls = calls_of(keeper, server, most_a_day=10_000)
    async with batcher_of(keeper, calls) as batcher:
        outcomes = await asyncio.gather(*map(batcher.submit, requests()))
    assert [outcome.kind for outcome in outcomes].count(OutcomeKind.INPUT_REJECTED) == 2
    assert await used(keeper) == server.stats().texts > len(NAMES)


async def test_a_bisection_sends_no_more_texts_than_the_days_limit(keeper: Keeper, server: FakeGemini) -> None:
    calls = calls_of(keeper, server, most_a_day=60)
    async with batcher_of(keeper, calls) as batcher:
        waiting = [asyncio.create_task(batcher.submit(asked)) for asked in requests()]
        await eventually(lambda: calls.problem is not None, within_s=20, because="the limit is reached")
        assert calls.problem is not None
        assert calls.problem.reason == "DayLimitReached"
        assert await used(keeper) == server.stats().texts == 60
        settled = [task.result().kind for task in waiting if task.done()]
        assert set(settled) <= {OutcomeKind.EMBEDDED}
    await asyncio.gather(*waiting, return_exceptions=True)


def requests() -> list[RowRequest]:
    return [RowRequest(str(n), content_hash(name)) for n, name in enumerate(NAMES, start=1)]


def batcher_of(keeper: Keeper, calls: ProviderCalls) -> Batcher[RowRequest, RowOutcome]:
    clock = SystemClock()
    row_embedder = RowEmbedder(keeper.store, calls, too_long=TooLong.TRUNCATE, clock=clock)
    return Batcher(row_embedder.embed_batch, max_items=len(NAMES), clock=clock)
