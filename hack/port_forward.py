"""A service of a cluster on a port of this machine, by `kubectl port-forward`. Called by the end-to-end tests and the demo."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.daemons import end, start_daemon, wait_until_ready
from hack.installation import Kubectl

FORWARDED_WITHIN_S = 30.0


@contextmanager
def forwarded(kubectl: Kubectl, service: str, port: int, folder: Path) -> Iterator[int]:
    """A port of 127.0.0.1 that leads to the service's pod, while the context lasts."""
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
