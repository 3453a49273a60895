"""A small server that embeds search texts for one source as `embedding-operator serve` does, by OpenAI's API.

Called by the tests of docs/search.md. The vectors are those of the local model, so they fit the rows of `yellow_book`.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.support.yellow_book import local_model

TOKEN = "token-of-the-application"


@contextmanager
def embeddings_server(source: str) -> Iterator[str]:
    """Serves until the context ends. Yields the base URL for a client of OpenAI's API."""
    handler = type("Handler", (_Handler,), {"source": source})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    source: str
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/embeddings":
            self._answer(404, _error("there is nothing else"))
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, _error("the token is wrong"))
        elif asked["model"] != self.source:
            self._answer(404, _error(f"there is no source {asked['model']}"))
        else:
            self._answer(200, _embedded(asked))

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing: the output of a test is for failures."""


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None, "param": None}}


def _embedded(asked: dict[str, Any]) -> dict[str, Any]:
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    vectors = local_model(texts)
    written = [_written(vector, asked.get("encoding_format", "float")) for vector in vectors]
    data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(written)]
    return {"object": "list", "model": asked["model"], "data": data, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def _written(vector: "np.ndarray[Any, Any]", encoding: str) -> list[float] | str:
    floats = vector.astype("<f4")
    return base64.b64encode(floats.tobytes()).decode() if encoding == "base64" else floats.tolist()
