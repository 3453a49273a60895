"""A provider imports its whole SDK at once, also what the SDK imports only for its first client or its first call."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

ANSWER = json.dumps({"data": [{"index": 0, "embedding": [1, 0, 0]}], "embeddings": [{"values": [1, 0, 0]}]}).encode()
"""An answer of OpenAI's API and of Google's."""
GOOGLES = "gemini-embedding-001"
BEGIN = """
import asyncio, sys
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.provider import SOURCE_ENDPOINT, registered_providers
from embedding_worker.providers.sdk import make_ready
from embedding_worker.source import Model
provider, model, dimensions, url = registered_providers()[sys.argv[1]], sys.argv[2], int(sys.argv[3]), sys.argv[4]
values = {"GEMINI_API_KEY": "k", "OPENAI_API_KEY": "k", SOURCE_ENDPOINT: url}
client = provider.make(Model(provider.name, model, dimensions, endpoint=url), values)
"""
IMPORTED_LATER = """
async def main():
    await make_ready(provider, None)
    before = set(sys.modules)
    await client.embed(["a plumber"])
    print(*sorted(name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names))
asyncio.run(main())
"""
WITHOUT = """
sys.modules[sys.argv[5]] = None
try:
    asyncio.run(make_ready(provider, client))
except SourceRefused as refused:
    print(refused.reason, refused.message)
"""


class OneAnswer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), OneAnswer) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def printed_by(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", BEGIN + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("provider", "model", "dimensions"),
    [
        ("gemini", GOOGLES, 3),
        ("google-genai", GOOGLES, 3),
        ("local", "universal-sentence-encoder-multilingual-3", 512),
        ("openai", "any", 3),
    ],
)
def test_nothing_more_is_imported_for_the_first_client_and_the_first_call(
    url: str, provider: str, model: str, dimensions: int
) -> None:
    endpoint = "" if provider == "local" else url
    assert printed_by(IMPORTED_LATER, provider, model, str(dimensions), endpoint) == ""


@pytest.mark.parametrize(
    ("provider", "model", "missing"),
    [
        ("gemini", GOOGLES, "google.auth.api_key"),
        ("google-genai", GOOGLES, "h11"),
        ("openai", "any", "h11"),
        ("openai", "any", "openai.resources.embeddings"),
    ],
)
def test_a_source_is_refused_where_a_module_is_missing_that_the_first_client_needs(
    provider: str, model: str, missing: str
) -> None:
    said = printed_by(WITHOUT, provider, model, "3", "http://127.0.0.1:9", missing)
    assert said.startswith(f"ProviderNotInstalled spec.model.provider is '{provider}', which is not installed here: ")
    assert f"install embedding-operator[{provider}] (" in said
    assert said.endswith(f" can't be imported: ModuleNotFoundError {missing})")
