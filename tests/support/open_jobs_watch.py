"""Counts the jobs of a namespace while a test runs: how many exist and are open at the same time, also for one business.

Called by the journeys about limits. It shares no code with the operator: it reads the events of `kubectl get --watch`.
"""

import subprocess
import threading
from collections import Counter
from types import TracebackType
from typing import Self

import yaml

from hack.installation.kubectl import Kubectl
from hack.processes.environment import program_environment
from tests.support.deadline import wait_until

OPEN = ("Pending", "Retrying")
LINE = "{.type} {.object.metadata.name} {.object.spec.businessId} {.object.status.phase}{'\\n'}"
SENTINEL = {
    "apiVersion": "embeddings.yellowbook.dev/v1alpha1",
    "kind": "EmbeddingJob",
    "metadata": {"name": "the-watch-has-started"},
    "spec": {"sourceRef": {"name": "none"}, "businessId": "none", "contentHash": "0" * 64, "fingerprint": "none"},
}


class OpenJobsWatch:
    """Reads the watch in a thread. Enter it before the operator starts, so that it receives every event."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        command = kubectl.command("get", "embeddingjobs", "--watch", "--output-watch-events", "-o", f"jsonpath={LINE}")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=program_environment())
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._open: dict[str, str] = {}
        self._sentinel_events = 0
        self.most_open = 0
        self.most_for_one_business = 0
        self._existing: set[str] = set()
        self.most_existing = 0
        """Open and finished jobs and dead letters."""
        self.settled: Counter[str] = Counter()
        """The number of jobs that are no longer open, by their phase or as Deleted."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(SENTINEL))
        wait_until(lambda: self._sentinel_events, within_s=30, because="a job was created")
        self._kubectl.run("delete", "embeddingjob", str(SENTINEL["metadata"]["name"]))  # type: ignore[index]
        wait_until(lambda: self._sentinel_events == 2, within_s=30, because="the job was deleted")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        self._thread.join(timeout=10)

    def wait_until_settled(self, jobs: int) -> None:
        """Return when the watch has shown so many jobs leave the open phases: a row is fresh before its job says so."""
        wait_until(
            lambda: self.settled.total() >= jobs or self._process.poll() is not None,
            within_s=90,
            every_s=0.1,
            because=f"{jobs} jobs settle",
        )
        assert self._process.poll() is None, "kubectl's watch has ended early"

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._record(*line.split())

    def _record(self, event: str, name: str, business: str, phase: str) -> None:
        if business == "none":
            self._sentinel_events += 1
            return
        (self._existing.discard if event == "DELETED" else self._existing.add)(name)
        self.most_existing = max(self.most_existing, len(self._existing))
        if event != "DELETED" and phase in OPEN:
            self._open[name] = business
            self.most_open = max(self.most_open, len(self._open))
            self.most_for_one_business = max(self.most_for_one_business, *Counter(self._open.values()).values())
        elif self._open.pop(name, None) is not None:
            self.settled["Deleted" if event == "DELETED" else phase] += 1
