"""`embedding-operator backfill-worker` as processes beside the test, each with a share of one source's rows.

Called by the tests of the worker processes. They get the database and the provider, and no cluster.
"""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.processes.daemons import Daemon, end, is_running, log_tail, start_daemon, wait_for_exit
from tests.support.json_log import json_lines

ENDS_WITHIN_S = 60.0


@dataclass
class WorkerProcesses:
    source: str
    """`namespace/name`."""
    folder: Path
    settings: Mapping[str, str]
    _daemons: dict[int, Daemon] = field(default_factory=dict)

    def start(self, index: int, *arguments: str) -> None:
        """Start the worker of this share. Its settings are those of all."""
        program = Path(sys.executable).with_name("embedding-operator")
        command: list[str | Path] = [program, "backfill-worker", self.source, f"--index={index}", *arguments]
        self._daemons[index] = start_daemon(
            f"worker {index}", command, log=self.log(index), ends_with_parent=True, settings=self.settings
        )

    def log(self, index: int) -> Path:
        return self.folder / f"worker-{index}.log"

    def events(self, index: int) -> list[Any]:
        """The lines of its log."""
        return json_lines(self.log(index))

    def kill(self, index: int) -> None:
        """Send SIGKILL, as when a node fails."""
        end(self._daemons[index], within_s=ENDS_WITHIN_S, first=signal.SIGKILL)

    def terminate(self, index: int) -> None:
        os.kill(self._daemons[index].pid, signal.SIGTERM)

    def exit_code(self, index: int, *, within_s: float = ENDS_WITHIN_S) -> int | None:
        """Wait for its end; None: it still runs after this time."""
        return wait_for_exit(self._daemons[index], within_s=within_s)

    def is_running(self, index: int) -> bool:
        return is_running(self._daemons[index])

    def tail(self, index: int) -> str:
        return log_tail(self.log(index))

    def end_all(self) -> None:
        for daemon in self._daemons.values():
            end(daemon, within_s=1, first=signal.SIGKILL)
