"""kubectl as the administrator of a cluster, and a service of that cluster on a port of this machine.

Called by the demo and the tests. It reads the kubeconfig of the given cluster only, never the one of the user.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster_choice.choice import Cluster
from hack.errors import ToolError
from hack.processes.daemons import end, start_daemon, wait_until_ready
from hack.processes.run import run_to_end

FORWARDED_WITHIN_S = 30.0


@dataclass(frozen=True)
class Kubectl:
    """kubectl as the cluster's administrator, in one namespace."""

    cluster: Cluster
    namespace: str = "default"

    def command(self, *arguments: str) -> list[str]:
        base = [self.cluster.kubectl, "--kubeconfig", self.cluster.admin_kubeconfig, "--namespace", self.namespace]
        return [*map(str, base), *arguments]

    def try_run(
        self, *arguments: str, stdin: str | None = None, within_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        return run_to_end(self.command(*arguments), within_s=within_s, stdin=stdin)

    def run(self, *arguments: str, stdin: str | None = None, within_s: float = 60) -> str:
        """Returns its output. Raises ToolError with the errors of kubectl."""
        done = self.try_run(*arguments, stdin=stdin, within_s=within_s)
        if done.returncode != 0:
            raise ToolError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.run("get", *arguments, "-o", "json"))


@contextmanager
def forward_port(kubectl: Kubectl, service: str, port: int, folder: Path) -> Iterator[int]:
    """Forward a port of 127.0.0.1 to the service's pod while the context lasts. Gives the port."""
    log = folder / f"{service}-forwarded.log"
    command = kubectl.command("port-forward", f"service/{service}", f":{port}", "--address=127.0.0.1")
    daemon = start_daemon("kubectl port-forward", command, log=log, ends_with_parent=True)
    try:
        pattern = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
        wait_until_ready(daemon, lambda: pattern.search(log.read_text()) is not None, within_s=FORWARDED_WITHIN_S)
        found = pattern.search(log.read_text())
        assert found is not None
        yield int(found[1])
    finally:
        end(daemon, within_s=5)
