"""`embedding-operator serve` as a process beside the caller, with the rights of its service account.

Called by the demo and the tests.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

from hack.errors import ToolError
from hack.installation.operator_process import READY_WITHIN_S, OperatorProcess

LOOK_EVERY_S = 0.1


class SearchProcess(OperatorProcess):
    """It needs no database."""

    def __init__(
        self, *, kubeconfig: Path, folder: Path, settings: Mapping[str, str] | None = None, name: str = "serve"
    ) -> None:
        super().__init__(kubeconfig=kubeconfig, database_url="", folder=folder, settings=settings, name=name)
        self._arguments = ["serve"]

    def start(self, *, ends_with_parent: bool = True, until: str = "http server up") -> None:
        """Start it, and return when it is ready."""
        super().start(ends_with_parent=ends_with_parent, until=until)
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise ToolError(f"embedding-operator serve is not ready after {READY_WITHIN_S:.0f} s:\n{self.tail()}")
            time.sleep(LOOK_EVERY_S)

    def is_ready(self) -> bool:
        try:
            return self.page("/readyz") == "ok\n"
        except URLError:
            return False
