"""The package of docs/providers.md, "A provider of your own": found by its entry point, and called through the registry."""

import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from embedding_operator.resources.embedding_source import ModelSpec
from embedding_worker.clock import SystemClock
from embedding_worker.errors import (
    AnswerUnusable,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    SourceRefused,
)
from embedding_worker.providers.accounts import ApiKey
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.providers.source_embedder import SourceEmbedder
from embedding_worker.source import Model
from hack.repository import ROOT

SECTION = (ROOT / "docs" / "providers.md").read_text().split("## A provider of your own")[1]
KEY = "k3y-of-Acme"
NO_JSON = "no JSON"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return str(found)


async def answer(request: web.Request) -> web.StreamResponse:
    """As the example's API does; a number is answered with that HTTP code, and anything else with a vector."""
    texts = (await request.json())["input"]
    if request.headers["Authorization"] != f"Bearer {KEY}":
        return web.Response(status=401)
    if texts[0].isdigit():
        return web.Response(status=int(texts[0]), text=texts[0], headers={"Location": "/elsewhere"})
    if texts[0].startswith("{"):
        return web.Response(text=texts[0], content_type="application/json")
    if texts[0] == NO_JSON:
        return web.Response(text="<html>")
    return web.json_response({"data": [{"embedding": [3.0, 4.0 * len(text)]} for text in texts]})


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    app = web.Application()
    app.add_routes([web.post("/v1/embeddings", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    addresses: list[Any] = runner.addresses
    yield f"http://127.0.0.1:{addresses[0][1]}/v1/embeddings"
    await runner.cleanup()


@pytest.fixture(autouse=True)
def _install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip does: the module, and beside it the metadata of its distribution."""
    (tmp_path / "acme_embeddings.py").write_text(block("python"))
    project = tomllib.loads(block("toml"))["project"]
    metadata = tmp_path / f"acme_embeddings-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items())
        for group, named in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_embeddings", raising=False)


def model(endpoint: str) -> Model:
    return ModelSpec.model_validate(yaml.safe_load(block("yaml"))["model"] | {"endpoint": endpoint}).model()


def embedder(endpoint: str, *, key: str = KEY) -> SourceEmbedder:
    """For the page's own source, whose key the chart's value apiKeys contains."""
    credentials = Credentials({}, {"acme/key": ApiKey("acme/key", (endpoint,), key)})
    registry = ProviderRegistry(credentials, clock=SystemClock(), observer=NoObserver())
    return registry.embedder(model(endpoint), source="businesses")


async def test_the_pages_source_is_embedded_by_the_pages_package(endpoint: str) -> None:
    assert await embedder(endpoint).embed(["a", "b"]) == [[0.6, 0.8], [0.6, 0.8]]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("400", InputRejected),
        ("307", ProviderMisconfigured),
        ("404", ProviderMisconfigured),
        ("429", ProviderThrottled),
        ("503", ProviderUnavailable),
    ],
)
async def test_each_error_of_the_api_raises_the_class_of_its_reaction(
    endpoint: str, code: str, error: type[ProviderError]
) -> None:
    with pytest.raises(error):
        await embedder(endpoint).embed([code])


async def test_a_wrong_key_is_told_as_one(endpoint: str) -> None:
    with pytest.raises(ProviderMisconfigured):
        await embedder(endpoint, key="another").embed(["a"])


@pytest.mark.parametrize(
    "text", ["{}", '{"data": null}', '{"data": ["x"]}', '{"data": [{"embedding": ["a", "b"]}]}', NO_JSON]
)
async def test_an_answer_of_another_form_is_an_outage(endpoint: str, text: str) -> None:
    with pytest.raises(ProviderUnavailable):
        await embedder(endpoint).embed([text])


@pytest.mark.parametrize("text", ['{"data": []}', '{"data": [{"embedding": [1]}]}'])
async def test_a_vector_too_few_or_of_another_size_is_not_stored(endpoint: str, text: str) -> None:
    with pytest.raises(AnswerUnusable):
        await embedder(endpoint).embed([text])


def test_without_its_key_a_source_is_refused() -> None:
    registry = ProviderRegistry(Credentials({}), clock=SystemClock(), observer=NoObserver())
    with pytest.raises(SourceRefused, match="add it to the value apiKeys of the chart"):
        registry.embedder(model(""), source="businesses")


def test_the_package_contains_the_module_that_its_entry_point_names() -> None:
    project = tomllib.loads(block("toml"))["project"]
    assert project["name"].replace("-", "_") == "acme_embeddings"  # hatchling looks for a module of this name
    assert set(project["entry-points"]["embedding_operator.providers"].values()) == {"acme_embeddings:PROVIDER"}


def test_the_module_has_thirty_lines_that_are_not_empty() -> None:
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 30


def test_the_image_is_built_on_this_version_and_runs_as_its_user() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "embedding-operator" / "Chart.yaml").read_text())
    values = yaml.safe_load((ROOT / "charts" / "embedding-operator" / "values.yaml").read_text())
    first, *_, last = block("dockerfile").splitlines()
    assert first == f"FROM {values['image']['repository']}:{chart['appVersion']}"
    assert last in (ROOT / "Dockerfile").read_text().splitlines()


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_the_module_passes_the_linter(command: list[str]) -> None:
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        *command,
        "--isolated",
        "--line-length",
        "120",
        "--stdin-filename",
        "acme_embeddings.py",
        "-",
    ]
    done = subprocess.run(
        ruff, input=block("python"), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout
