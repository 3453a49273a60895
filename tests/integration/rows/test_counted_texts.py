"""Every text is counted before it is sent: what the provider's server received equals what the usage table says."""

import asyncio
from collections.abc import Iterator

import pytest

from embedding_worker.clock import SystemClock
from embedding_worker.errors import Postponed
from embedding_worker.limits import Limits
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest
from embedding_worker.pipeline import RowPipeline, make_pipeline
from embedding_worker.providers.embedder import Embedder
from embedding_worker.providers.gemini import GeminiEmbedder
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.openai import OpenAIEmbedder
from embedding_worker.providers.problem import Problem
from embedding_worker.providers.provider import Provider
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.source import Model, TooLong
from embedding_worker.text import content_hash
from hack.provider_server.openai_answers import Dialect
from hack.provider_server.process import FakeGemini
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper

pytest.importorskip("google.generativeai")

MODEL = Model("gemini", "gemini-embedding-001", 3)
KEY = "k3y-of-Somebody"
CLOCK = SystemClock()
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


def pipeline_of(keeper: Keeper, server: FakeGemini, *, most_a_day: int, tokens: int | None = None) -> RowPipeline:
    client = GeminiEmbedder(MODEL, api_key=KEY, endpoint=server.url)
    return pipeline_with(keeper, client, Limits(most_a_day, tokens))


def pipeline_with(keeper: Keeper, client: Embedder, limits: Limits) -> RowPipeline:
    provider = Provider("gemini", lambda model, values: client)
    registry = ProviderRegistry(Credentials({}), clock=CLOCK, observer=NoObserver(), providers={"gemini": provider})
    embedder = registry.embedder(MODEL, source="businesses")
    return make_pipeline(keeper.store, embedder, too_long=TooLong.TRUNCATE, limits=limits, clock=CLOCK)


async def used(keeper: Keeper) -> int:
    found = await keeper.store.used_today()
    return found.texts if found else 0


async def test_texts_of_bisected_calls_and_canaries_are_counted_too(keeper: Keeper, server: FakeGemini) -> None:
    pipeline = pipeline_of(keeper, server, most_a_day=10_000)
    async with pipeline.running(probes=True):
        outcomes = await asyncio.gather(*map(pipeline.batcher.submit, requests()))
    assert [outcome.kind for outcome in outcomes].count(OutcomeKind.INPUT_REJECTED) == 2
    assert await used(keeper) == server.stats().texts > len(NAMES)


async def test_a_bisection_sends_no_more_texts_than_the_days_limit(keeper: Keeper, server: FakeGemini) -> None:
    pipeline = pipeline_of(keeper, server, most_a_day=100)
    async with pipeline.running(probes=True):
        outcomes = await asyncio.gather(*map(pipeline.batcher.submit, requests()), return_exceptions=True)
    assert await used(keeper) == server.stats().texts == 100
    settled = [outcome.kind for outcome in outcomes if isinstance(outcome, RowOutcome)]
    assert set(settled) == {OutcomeKind.EMBEDDED}
    postponed = [outcome for outcome in outcomes if isinstance(outcome, Postponed)]
    assert len(settled) + len(postponed) == len(NAMES)
    assert pipeline.gate.problem == Problem(
        "DayLimitReached",
        "spec.limits.textsPerDay is 100, and 100 texts were sent today (UTC): raise it, or wait until midnight UTC",
    )
    assert not pipeline.gate.is_open


async def test_a_bisection_sends_no_more_tokens_than_the_days_limit(keeper: Keeper, server: FakeGemini) -> None:
    pipeline = pipeline_of(keeper, server, most_a_day=10_000, tokens=250)
    async with pipeline.running(probes=True):
        await asyncio.gather(*map(pipeline.batcher.submit, requests()), return_exceptions=True)
    found = await keeper.store.used_today()
    assert found is not None
    assert 240 < found.tokens <= 250
    assert found.texts == server.stats().texts
    assert pipeline.gate.problem is not None
    assert pipeline.gate.problem.reason == "TokenLimitReached"


async def test_texts_that_did_not_reach_the_server_are_not_counted(keeper: Keeper, server: FakeGemini) -> None:
    pipeline = pipeline_of(keeper, server, most_a_day=10_000)
    server.stop()
    async with pipeline.running(probes=True):
        outcomes = await asyncio.gather(*map(pipeline.batcher.submit, requests()), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Postponed}
    assert await used(keeper) == 0


async def test_the_tokens_that_the_server_reports_are_recorded_when_the_pipeline_ends_at_the_latest(
    keeper: Keeper, server: FakeGemini
) -> None:
    pytest.importorskip("openai")
    model, texts = Model("openai", "text-embedding-3-small", 3), 6
    client = OpenAIEmbedder(model, api_key=KEY, endpoint=server.openai_url(Dialect.OPENAI))
    pipeline = pipeline_with(keeper, client, Limits())
    async with pipeline.running(probes=True):
        await asyncio.gather(*map(pipeline.batcher.submit, requests()[:texts]))
    found = await keeper.store.used_today()
    assert found is not None
    assert found.texts == server.stats().texts == texts
    assert found.tokens == found.reported > 0


def requests() -> list[RowRequest]:
    return [RowRequest(str(n), content_hash(name)) for n, name in enumerate(NAMES, start=1)]
