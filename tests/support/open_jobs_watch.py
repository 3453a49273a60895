"""Watches a namespace's jobs as the API server shows them: how many are open at once, and how many for one business.

Independent of the operator: a watch of the Kubernetes client gives the events in their order, from before the first job to the
end. A watch that the API server closes, because a busy machine reads it too slowly, goes on where it ended, and misses nothing.
"""

import contextlib
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

import yaml
from kubernetes import client, config, watch
from urllib3.exceptions import ProtocolError

from embedding_operator.resources import GROUP, JOBS, VERSION
from hack.installation.kubectl import Kubectl
from tests.support.deadline import wait_until

OPEN = ("Pending", "Retrying")
SENTINEL = "the-watch-has-begun"
SENTINEL_JOB = {
    "apiVersion": f"{GROUP}/{VERSION}",
    "kind": "EmbeddingJob",
    "metadata": {"name": SENTINEL},
    "spec": {"sourceRef": {"name": "none"}, "businessId": "none", "contentHash": "0" * 64, "fingerprint": "none"},
}


class OpenJobsWatch:
    """A thread that follows the watch, started before the operator is."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._watch: Any = watch.Watch()  # type: ignore[no-untyped-call]
        self._stopped = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._open: dict[str, str] = {}
        self._existing: set[str] = set()
        self._sentinel_events = 0
        self.most_open = 0
        self.most_for_one_business = 0
        self.most_existing = 0
        """Open and finished jobs and dead letters."""
        self.settled: Counter[str] = Counter()
        """The number of jobs that are no longer open, by their phase or as Deleted."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._touch_sentinel()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped = True
        self._watch.stop()  # takes effect with the next event
        self._kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(SENTINEL_JOB))
        self._thread.join(timeout=60)
        # Its source does not exist: an operator that runs ends this job and deletes it when it deletes finished ones.
        self._kubectl.run("delete", "embeddingjob", SENTINEL, "--ignore-not-found")
        assert not self._thread.is_alive(), "the watch has not ended"

    def wait_until_settled(self, jobs: int) -> None:
        """Return when the watch has shown so many jobs leave the open phases: a row is fresh before its job says so."""
        wait_until(
            lambda: self.settled.total() >= jobs or not self._thread.is_alive(),
            within_s=90,
            every_s=0.1,
            because=f"{jobs} jobs settle",
        )
        assert self._thread.is_alive(), "the watch has ended early"

    def _touch_sentinel(self) -> None:
        self._kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(SENTINEL_JOB))
        wait_until(lambda: self._sentinel_events, within_s=30, because="a job was created")
        self._kubectl.run("delete", "embeddingjob", SENTINEL)
        wait_until(lambda: self._sentinel_events == 2, within_s=30, because="the job was deleted")

    def _follow(self) -> None:
        configuration = client.Configuration()
        kubeconfig = str(self._kubectl.cluster.admin_kubeconfig)
        config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        api = client.CustomObjectsApi(client.ApiClient(configuration))
        place = (GROUP, VERSION, self._kubectl.namespace, JOBS)
        newest: dict[str, str] = {}
        while not self._stopped:
            with contextlib.suppress(ProtocolError):  # the server has closed the watch in the middle of an answer
                for event in self._watch.stream(api.list_namespaced_custom_object, *place, **newest):
                    newest = {"resource_version": event["object"]["metadata"]["resourceVersion"]}
                    self._record(event["type"], event["object"])
                    if self._stopped:  # the stream forgets a stop that comes before its first event
                        break

    def _record(self, event: str, job: dict[str, Any]) -> None:
        name, business, phase = job["metadata"]["name"], job["spec"]["businessId"], job["status"]["phase"]
        if name == SENTINEL:
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
