"""`embedding-operator run` as a process beside the caller, with the rights of a service account.

Called by the demo and the tests. It never gets the administrator's kubeconfig.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from hack.errors import ToolError
from hack.processes.daemons import (
    Daemon,
    end,
    is_running,
    log_tail,
    start_daemon,
    wait_for_exit,
    wait_until_ready,
    whole_lines,
)

READY_WITHIN_S = 60.0
ENDS_WITHIN_S = 40.0
ANSWERS_WITHIN_S = 30.0


class OperatorProcess:
    """`embedding-operator run` with a service account's kubeconfig. Its log is a file, one JSON object a line."""

    def __init__(
        self,
        *,
        kubeconfig: Path,
        database_url: str,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        name: str = "operator",
        dry_run: bool = False,
    ) -> None:
        self.log = folder / f"{name}.log"
        self._arguments = ["run", "--dry-run"] if dry_run else ["run"]
        self._settings = {
            "KUBECONFIG": str(kubeconfig),
            "DATABASE_URL": database_url,
            "EMBEDDING_HTTP_PORT": "0",  # several run at the same time
            "EMBEDDING_LOCAL_PORT": "0",
            **dict(settings or {}),
        }
        self._daemon: Daemon | None = None

    def start(self, *, ends_with_parent: bool = True, until: str = "operator ready") -> None:
        """Start it, and return when it has logged this. Raises DaemonDied with the end of its log."""
        lines_before = self._lines_with(until) if self.log.exists() else 0
        program = Path(sys.executable).with_name("embedding-operator")
        self._daemon = start_daemon(
            "embedding-operator",
            [program, *self._arguments],
            log=self.log,
            ends_with_parent=ends_with_parent,
            settings=self._settings,
        )
        wait_until_ready(self._daemon, lambda: self._lines_with(until) > lines_before, within_s=READY_WITHIN_S)

    @property
    def daemon(self) -> Daemon:
        if self._daemon is None:
            raise ToolError("the operator was not started")
        return self._daemon

    @property
    def http_url(self) -> str:
        """Where /healthz, /readyz and /metrics are."""
        return self._url_of("http server up")

    def page(self, path: str) -> str:
        """What it answers. Raises URLError, and HTTPError for an answer that says so by its status code."""
        with urlopen(f"{self.http_url}{path}", timeout=ANSWERS_WITHIN_S) as answer:  # noqa: S310
            return str(answer.read().decode())

    def page_or_error(self, path: str) -> tuple[int, str]:
        """The status code and what it answers, whatever the code. Raises URLError."""
        try:
            return 200, self.page(path)
        except HTTPError as exc:
            return exc.code, exc.read().decode()

    @property
    def local_url(self) -> str:
        """Where questions about rows are answered."""
        return self._url_of("local endpoint up")

    def _url_of(self, event: str) -> str:
        events = [json.loads(line) for line in whole_lines(self.log) if f'"{event}"' in line]
        return f"http://127.0.0.1:{events[-1]['port']}"

    def _lines_with(self, text: str) -> int:
        return sum(text in line for line in whole_lines(self.log))

    def is_running(self) -> bool:
        return self._daemon is not None and is_running(self._daemon)

    def stop(self) -> None:
        """Send SIGTERM, and wait until it has drained and ended."""
        if self._daemon is not None:
            end(self._daemon, within_s=ENDS_WITHIN_S)

    def terminate(self, *, within_s: float) -> int | None:
        """Send SIGTERM. Returns the exit code; None: it still runs after this time."""
        os.kill(self.daemon.pid, signal.SIGTERM)
        return wait_for_exit(self.daemon, within_s=within_s)

    def kill(self) -> None:
        """Send SIGKILL, as when a node fails."""
        end(self.daemon, within_s=ENDS_WITHIN_S, first=signal.SIGKILL)

    def tail(self) -> str:
        return log_tail(self.log, lines=40)
