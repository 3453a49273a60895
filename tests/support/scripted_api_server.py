"""An HTTP server in place of an API server, whose answers a test writes. Called by unit tests of the command as it is called."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from tests.support.kubeconfigs import kubeconfig, write

Reply = tuple[int, bytes]


def as_json(content: Any, status: int = 200) -> Reply:
    return status, json.dumps(content).encode()


def a_list(*bodies: Any, following: str = "") -> Reply:
    return as_json({"items": bodies, "metadata": {"resourceVersion": "1", "continue": following}})


@dataclass
class ScriptedApiServer:
    url: str
    kubeconfig: Path
    """Of this server, with a namespace."""
    reply: Callable[[str, str], Reply]
    """What a request gets, by its path and its query."""
    requests: list[str] = field(default_factory=list)
    """Method and path of each, in order."""


@contextmanager
def scripted_api_server(folder: Path, reply: Callable[[str, str], Reply]) -> Iterator[ScriptedApiServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_PATCH(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer()

        def _answer(self) -> None:
            url = urlsplit(self.path)
            made.requests.append(f"{self.command} {url.path}")
            status, content = made.reply(url.path, url.query)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    path = write(
        folder / "kubeconfig",
        kubeconfig(cluster={"server": url}, user={"token": "t"}, context={"namespace": "of-the-context"}),
    )
    made = ScriptedApiServer(url, path, reply)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
