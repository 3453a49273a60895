"""The worked example of docs/architecture.md, "Add a provider": installed by its entry point, and called through the registry."""

import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.settings import settings_from, variables
from embedding_worker import providers
from embedding_worker.clock import SystemClock
from embedding_worker.errors import (
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    SourceRefused,
)
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.provider import ENTRY_POINT_GROUP, registered_providers
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.source import Model
from hack.repository import ROOT

SECTION = (ROOT / "docs" / "architecture.md").read_text().split("## Add a provider")[1].split("\n## ")[0]
MODEL = Model("acme", "acme-embed-1", 2)
KEY = "k3y-of-Acme"
CUT_SHORT = '{"data'


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return str(found)


class AcmeServer(BaseHTTPRequestHandler):
    """Answers as the example's API does; a number is answered with that HTTP code, and a text that is JSON with itself."""

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        code = int(texts[0]) if texts[0].isdigit() else 200
        if self.headers["Authorization"] != f"Bearer {KEY}":
            code = 401
        if self.headers["Content-Type"] != "application/json":
            code = 415
        answer = json.dumps({"data": [{"embedding": [3.0, 4.0 * len(text)]} for text in texts]})
        self.send_response(code)
        self.send_header("Retry-After", "7")
        if texts[0] == CUT_SHORT:
            self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write((texts[0] if texts[0].startswith(("{", "[")) else answer).encode())

    def log_message(self, *arguments: Any) -> None:
        """Nothing is logged."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with HTTPServer(("127.0.0.1", 0), AcmeServer) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/embeddings"
        server.shutdown()
        serving.join()


@pytest.fixture(autouse=True)
def _install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the module among the providers, and its entry point in a distribution that Python finds."""
    (tmp_path / "acme.py").write_text(block("python"))
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(tmp_path)])
    points = tomllib.loads(block("toml"))["project"]["entry-points"]
    metadata = tmp_path / "acme-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items())
        for group, named in points.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "embedding_worker.providers.acme", raising=False)
    monkeypatch.delattr(providers, "acme", raising=False)


def registry(endpoint: str, *, key: str = KEY) -> ProviderRegistry:
    environ = {"DATABASE_URL": "postgresql://u@h/d", "ACME_API_KEY": key, "ACME_ENDPOINT": endpoint}
    return ProviderRegistry(settings_from(environ).credentials(), clock=SystemClock(), observer=NoObserver())


def test_the_variables_of_a_registered_provider_are_settings() -> None:
    assert "acme" in registered_providers()
    assert {"ACME_API_KEY", "ACME_API_KEY_FILE", "ACME_ENDPOINT"} <= variables()


async def test_the_provider_embeds_through_the_registry(endpoint: str) -> None:
    embedder = registry(endpoint).embedder(MODEL, source="businesses")
    assert await embedder.embed(["a", "b"]) == [[0.6, 0.8], [0.6, 0.8]]


@pytest.mark.parametrize(
    ("code", "error"),
    [("400", InputRejected), ("403", ProviderMisconfigured), ("429", ProviderThrottled), ("503", ProviderUnavailable)],
)
async def test_each_error_of_the_api_raises_the_class_of_its_reaction(
    endpoint: str, code: str, error: type[ProviderError]
) -> None:
    embedder = registry(endpoint).embedder(MODEL, source="businesses")
    with pytest.raises(error) as raised:
        await embedder.embed([code])
    assert raised.value.code == code


async def test_the_pause_that_the_api_asks_for_is_passed_on(endpoint: str) -> None:
    with pytest.raises(ProviderThrottled) as raised:
        await registry(endpoint).embedder(MODEL, source="businesses").embed(["429"])
    assert raised.value.retry_after_s == 7


@pytest.mark.parametrize(
    "answer",
    [
        "[]",
        "{}",
        '{"data": null}',
        '{"data": ["x"]}',
        '{"data": [{"embedding": null}]}',
        '{"data": [{"embedding": ["a", "b"]}]}',
        '{"data": [{"embedding": [1]}]}',
        CUT_SHORT,
    ],
)
async def test_an_answer_of_another_form_is_an_outage(endpoint: str, answer: str) -> None:
    with pytest.raises(ProviderUnavailable):
        await registry(endpoint).embedder(MODEL, source="businesses").embed([answer])


def test_an_address_that_is_not_http_is_refused() -> None:
    with pytest.raises(SourceRefused) as refused:
        registry("file:///etc/hostname").embedder(MODEL, source="businesses")
    assert refused.value.reason == "EndpointInvalid"


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_the_module_passes_the_linter(command: list[str]) -> None:
    path = ROOT / "worker" / "embedding_worker" / "providers" / "acme.py"
    ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
    done = subprocess.run(
        ruff, input=block("python"), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout


async def test_a_rotated_key_is_used_by_the_same_embedder(endpoint: str) -> None:
    providers_with_old_key = registry(endpoint, key="an-old-key")
    embedder = providers_with_old_key.embedder(MODEL, source="businesses")
    with pytest.raises(ProviderMisconfigured):
        await embedder.embed(["a"])
    await providers_with_old_key.rotate("ACME_API_KEY", KEY)
    assert len(await embedder.embed(["a"])) == 1


OWN_PROVIDERS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][ENTRY_POINT_GROUP])


def test_the_crd_describes_each_provider_of_ours_and_admits_its_name_and_that_of_others() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "embeddingsources.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    field = spec["properties"]["model"]["properties"]["provider"]
    assert {name for name in OWN_PROVIDERS if re.search(rf"(^|[ :]){name} \(", field["description"])} == OWN_PROVIDERS
    assert all(re.search(field["pattern"], name) for name in OWN_PROVIDERS | {"acme"})


def test_no_other_module_names_a_provider() -> None:
    modules = [path for package in ("worker", "operator") for path in (ROOT / package).rglob("*.py")]
    for name in OWN_PROVIDERS:
        own = ROOT / "worker" / "embedding_worker" / "providers" / f"{name.replace('-', '_')}.py"
        quoted = re.compile(rf"[\"']{name}[\"']|providers\.{name}\b")
        naming = [path for path in modules if path != own and quoted.search(path.read_text())]
        assert naming == []
