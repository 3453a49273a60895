"""`embedding-operator serve` with the rights that it has in an installation: asked by the real client of OpenAI's API.

The sources have the status that the operator writes. No operator and no database runs.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import make_serve_account
from hack.installation.search_process import SearchProcess
from hack.provider_server.faults import FaultKind
from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import hash_of
from tests.support.deadline import eventually
from tests.support.manifests import a_source
from tests.support.yellow_book import local_model

openai = pytest.importorskip("openai")

TOKEN = "only-for-these-tests"
LOCAL = {"provider": "local", "name": "universal-sentence-encoder-multilingual-3", "dimensions": 512}
GEMINI = {"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 64, "taskType": "RETRIEVAL_DOCUMENT"}
SEARCHED = "a plumber who comes at night"


def add_source(kubectl: Kubectl, name: str, model: dict[str, Any], *, in_force: dict[str, Any] | None = None) -> None:
    """Create a source, and let its status say which model is in force."""
    spec = {key: value for key, value in model.items() if not key.startswith("query")}
    kubectl.run("apply", "-f", "-", stdin=json.dumps(a_source(name, model=spec, table=f"public.{name}")))
    status = {"status": {"observedGeneration": 1, "model": in_force or model}}
    kubectl.run("patch", "esrc", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))


@pytest.fixture(scope="module")
def gemini(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path_factory.mktemp("fake-gemini")) as server:
        yield server


@pytest.fixture(scope="module")
def served(kubectl: Kubectl, gemini: FakeGemini, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchProcess]:
    folder = tmp_path_factory.mktemp("serve")
    add_source(kubectl, "businesses", LOCAL)
    add_source(kubectl, "hotels", GEMINI | {"queryPrefix": "find: "})
    add_source(kubectl, "renamed", LOCAL | {"name": "any", "dimensions": 8}, in_force=LOCAL)
    kubectl.run("apply", "-f", "-", stdin=json.dumps(a_source("new", table="public.new")))
    (folder / "token").write_text(TOKEN)
    process = SearchProcess(
        kubeconfig=make_serve_account(kubectl.cluster, kubectl.namespace, folder),
        folder=folder,
        settings={
            "EMBEDDING_SERVE_TOKEN_FILE": str(folder / "token"),
            "GEMINI_API_KEY": gemini.api_key,
            "EMBEDDING_GEMINI_ENDPOINT": gemini.url,
        },
    )
    process.start()
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
async def client(served: SearchProcess, gemini: FakeGemini) -> AsyncIterator[Any]:
    gemini.lift()
    async with openai.AsyncOpenAI(base_url=f"{served.http_url}/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


async def embed(client: Any, source: str, texts: str | list[str], **more: Any) -> list[list[float]]:
    answer = await client.embeddings.create(model=source, input=texts, **more)
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return [each.embedding for each in answer.data]


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_a_search_text_gets_the_vector_of_the_sources_model(client: Any, encoding: str) -> None:
    # Without encoding_format, the client asks for base64, and decodes it itself.
    more = {} if encoding == "base64" else {"encoding_format": encoding}
    first, second = await embed(client, "businesses", [SEARCHED, "西关牙科"], **more)
    expected = local_model([SEARCHED, "西关牙科"]).tolist()
    assert first == pytest.approx(expected[0], abs=1e-6)
    assert second == pytest.approx(expected[1], abs=1e-6)


async def test_the_answer_has_the_form_that_clients_know(client: Any) -> None:
    answer = await client.embeddings.create(model="businesses", input=SEARCHED, dimensions=512, user="any")
    assert (answer.object, answer.model, answer.data[0].object) == ("list", "businesses", "embedding")
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    listed = {model.id: model.owned_by for model in (await client.models.list()).data}
    assert listed == {"businesses": "local", "hotels": "gemini", "new": "local", "renamed": "local"}


async def test_a_search_text_is_sent_with_the_task_type_and_the_prefix_of_search_texts(
    client: Any, gemini: FakeGemini
) -> None:
    before = gemini.stats()
    (vector,) = await embed(client, "hotels", SEARCHED)
    after = gemini.stats()
    assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-5)
    assert after.texts_by_hash.keys() - before.texts_by_hash.keys() == {hash_of(f"find: {SEARCHED}")}
    assert after.task_types == {"RETRIEVAL_QUERY": after.texts}


async def test_equal_texts_are_sent_once_in_a_request_at_the_same_time_and_later(
    client: Any, gemini: FakeGemini
) -> None:
    gemini.fault(FaultKind.SLOW, seconds=0.5)
    before = gemini.stats()
    texts = ["sushi", "ramen", "sushi"]
    together = (client.embeddings.create(model="hotels", input=texts) for _ in range(3))
    answers = [*await asyncio.gather(*together), await client.embeddings.create(model="hotels", input=["ramen"])]
    after = gemini.stats()
    assert (after.calls - before.calls, after.texts - before.texts) == (1, 2)
    assert answers[0].data[0].embedding == answers[2].data[2].embedding
    assert answers[3].data[0].embedding == answers[0].data[1].embedding


async def test_while_a_changed_model_waits_for_approval_the_one_in_force_embeds_search_texts(client: Any) -> None:
    (vector,) = await embed(client, "renamed", SEARCHED)
    assert vector == pytest.approx(local_model([SEARCHED])[0].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("request_", "status", "code", "said"),
    [
        ({"model": "nothing", "input": "x"}, 404, "model_not_found", "businesses, hotels, new, renamed"),
        ({"model": "new", "input": "x"}, 503, "NotSetUp", "see the conditions of EmbeddingSource new"),
        ({"model": "businesses", "input": "x", "dimensions": 256}, 400, "invalid_value", "businesses has 512"),
        ({"model": "businesses", "input": [" "]}, 400, "invalid_value", "input[0] is blank"),
        ({"model": "businesses", "input": ["x"] * 33}, 400, "invalid_value", "at most 32"),
        ({"model": "businesses", "input": [[1, 2]]}, 400, "invalid_value", "tokens are not accepted"),
        ({"model": "businesses", "input": "x" * 1_100_000}, 413, "body_too_large", "more than 1048576 bytes"),
    ],
)
async def test_a_request_that_gets_no_vector_is_answered_with_a_code_and_a_sentence(
    client: Any, request_: dict[str, Any], status: int, code: str, said: str
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        await client.embeddings.create(**request_)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert said in str(raised.value)
    assert ("retry-after" in raised.value.response.headers) == (status >= 429)


async def test_a_request_without_the_token_is_refused(client: Any) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        await embed(client.with_options(api_key="another"), "businesses", SEARCHED)
    assert raised.value.response.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="another").models.list()


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("get", "/embeddings", 405, "use POST"),
        ("post", "/completions", 404, "the path is /v1/embeddings or /v1/models"),
    ],
)
async def test_another_path_or_method_is_answered_in_the_same_form(
    client: Any, method: str, path: str, status: int, said: str
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        await getattr(client, method)(path, cast_to=object)
    assert (raised.value.status_code, raised.value.code) == (status, "invalid_request")
    assert said in str(raised.value)


async def test_a_text_that_the_model_refuses_is_the_requests_fault(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await embed(client, "hotels", ["a good text", "a POISON text"])
    assert raised.value.param == "input[1]"
    assert "POISON" not in str(raised.value)
    assert len(await embed(client, "hotels", "another text")) == 1


@pytest.mark.timeout(300)
async def test_while_the_provider_is_away_requests_are_answered_at_once_and_it_is_found_when_it_is_back(
    client: Any, gemini: FakeGemini
) -> None:
    gemini.fault(FaultKind.UNAVAILABLE)

    async def refused_at_once() -> bool:
        calls = gemini.stats().calls
        with pytest.raises(openai.InternalServerError) as raised:
            await embed(client, "hotels", "a text of the outage")
        assert (raised.value.status_code, raised.value.code) == (503, "ProviderUnavailable")
        assert int(raised.value.response.headers["retry-after"]) >= 1
        return (
            "no call is made to the model of EmbeddingSource hotels now" in str(raised.value)
            and gemini.stats().calls == calls
        )

    await eventually(refused_at_once, within_s=60, because="the circuit opens")
    gemini.lift()

    async def embedded() -> bool:
        try:
            return bool(await embed(client, "hotels", "a text of the outage"))
        except openai.InternalServerError:
            return False

    await eventually(embedded, within_s=90, every_s=0.2, because="a probe closes the circuit")


async def test_a_source_that_is_added_or_deleted_is_noticed(client: Any, kubectl: Kubectl) -> None:
    add_source(kubectl, "clinics", LOCAL)

    async def known() -> bool:
        return "clinics" in [model.id for model in (await client.models.list()).data]

    await eventually(known, within_s=60, because="the watch shows it")
    kubectl.run("delete", "esrc", "clinics")

    async def unknown() -> bool:
        return not await known()

    await eventually(unknown, within_s=60, because="the watch shows it")


def test_metrics_count_requests_and_texts_and_the_log_has_no_text(served: SearchProcess, kubectl: Kubectl) -> None:
    found = served.page("/metrics")
    assert 'embedding_operator_serve_requests_total{outcome="ok",source="businesses"}' in found
    assert 'embedding_operator_serve_requests_total{outcome="model_not_found",source=""}' in found
    assert 'embedding_operator_serve_texts_total{origin="cache",source="hotels"}' in found
    assert served.page("/healthz") == "ok\n"
    log = served.log.read_text()
    assert SEARCHED not in log
    assert f'"namespace": "{kubectl.namespace}"' in log
    assert "POISON" not in log
    assert TOKEN not in log


async def test_sigterm_lets_a_call_end_and_then_the_process(
    served: SearchProcess, client: Any, gemini: FakeGemini
) -> None:
    gemini.fault(FaultKind.SLOW, seconds=2.5)
    calls = gemini.stats().calls
    asked = asyncio.create_task(embed(client, "hotels", "the last text"))
    await eventually(lambda: gemini.stats().calls > calls, within_s=30, because="the call has begun")
    code = await asyncio.to_thread(served.terminate, within_s=60)
    assert (code, len(await asked)) == (0, 1)
