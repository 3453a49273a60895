"""Reads sources and jobs of one namespace as the administrator, without a process for each look. Called by the journeys, which
look several times a second: a kubectl that is started for each look would use most of the machine.
"""

from typing import Any

from kubernetes import client, config

from embedding_operator.resources import GROUP, JOBS, SOURCES, VERSION
from hack.cluster_choice.choice import Cluster


class ResourceReader:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        configuration = client.Configuration()
        kubeconfig = str(cluster.admin_kubeconfig)
        config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        self._api = client.CustomObjectsApi(client.ApiClient(configuration))
        self._place = (GROUP, VERSION, namespace)

    def source(self, name: str) -> Any:
        """Raises the client's ApiException where there is none."""
        return self._api.get_namespaced_custom_object(*self._place, SOURCES, name)

    def jobs(self, *, field_selector: str = "") -> list[Any]:
        """Oldest first."""
        answer: Any = self._api.list_namespaced_custom_object(*self._place, JOBS, field_selector=field_selector)
        found: list[Any] = answer["items"]
        return sorted(found, key=lambda job: str(job["metadata"]["creationTimestamp"]))
