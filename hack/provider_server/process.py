"""Starts the fake Gemini API as a program, sets its faults, reads its counts, and ends it. Called by tests and the demo."""

import json
import re
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from hack.errors import ToolError
from hack.processes.daemons import Daemon, end, is_running, start_daemon, wait_until_ready
from hack.provider_server.faults import FaultKind
from hack.provider_server.openai_answers import Dialect
from hack.provider_server.stats import Stats
from hack.repository import ROOT

API_KEY = "fake-gemini-key"
READY_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 30.0
ENDS_WITHIN_S = 5.0
LISTENING = re.compile(rb"^listening on (http://127\.0\.0\.1:(\d+))$", re.MULTILINE)


class FakeGemini:
    """One server. After a restart it has the same address, new counts and no faults."""

    def __init__(
        self,
        folder: Path,
        *,
        api_key: str = API_KEY,
        latency_ms: int = 0,
        port: int = 0,
        ends_with_parent: bool = True,
    ) -> None:
        """`folder` gets its log. `ends_with_parent`: see start_daemon."""
        self.api_key = api_key
        self.log = folder / "fake-gemini.log"
        self.ends_with_parent = ends_with_parent
        self._latency_ms = latency_ms
        self._port = port
        self._daemon: Daemon | None = None
        self._url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address, the endpoint for the SDK."""
        if not self._url:
            raise ToolError("the fake Gemini API was not started")
        return self._url

    def openai_url(self, dialect: Dialect = Dialect.OPENAI) -> str:
        """The address of its API that is OpenAI's, as this kind of server answers."""
        return f"{self.url}/{dialect}/v1"

    @property
    def daemon(self) -> Daemon:
        if self._daemon is None:
            raise ToolError("the fake Gemini API was not started")
        return self._daemon

    def is_running(self) -> bool:
        return self._daemon is not None and is_running(self._daemon)

    def start(self) -> None:
        """Start it, and return when it answers. Raises DaemonDied with the end of its log."""
        begin = self.log.stat().st_size if self.log.exists() else 0
        options = {"--port": self._port, "--latency-ms": self._latency_ms, "--api-key": self.api_key}
        words = [str(word) for option in options.items() for word in option]
        daemon = start_daemon(
            "fake-gemini",
            [sys.executable, "-m", "hack.provider_server", *words],
            log=self.log,
            ends_with_parent=self.ends_with_parent,
            settings={"PYTHONPATH": str(ROOT)},  # it starts in its log's folder
        )
        self._daemon = daemon
        try:
            wait_until_ready(daemon, lambda: self._listens(begin), within_s=READY_WITHIN_S)
        except ToolError:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and all calls that wait for an answer."""
        if self._daemon is not None:
            end(self._daemon, within_s=ENDS_WITHIN_S)
            self._daemon = None

    def fault(
        self,
        kind: FaultKind | str,
        *,
        times: int | None = None,
        ratio: float = 1.0,
        only_matching: str | None = None,
        more_than: int = 0,
        seconds: float | None = None,
        as_page: bool = False,
        location: str = "",
    ) -> None:
        """Add a fault to those in force; see faults.Fault. Raises ToolError if there is no such fault."""
        fault = {"kind": str(kind), "times": times, "ratio": ratio, "only_matching": only_matching}
        fault |= {"more_than": more_than, "as_page": as_page, "location": location}
        self._ask("POST", "/control", {"fault": fault if seconds is None else fault | {"seconds": seconds}})

    def lift(self) -> None:
        """Remove all faults. Calls that hang already go on hanging."""
        self._ask("DELETE", "/control")

    def stats(self) -> Stats:
        return Stats(**self._ask("GET", "/control/stats"))

    def _listens(self, begin: int) -> bool:
        found = LISTENING.search(self.log.read_bytes()[begin:])
        if found is not None:
            self._url, self._port = found[1].decode(), int(found[2])
        return found is not None

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        # http.client uses no proxy, and none must be used for an address of this machine.
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=ANSWERS_WITHIN_S)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, HTTPException) as exc:
            raise ToolError(f"the fake Gemini API does not answer at {self.url}: {exc}") from exc
        finally:
            connection.close()
        if answer.status != 200:
            raise ToolError(f"the fake Gemini API refuses {method} {path}: {text}")
        return json.loads(text)
