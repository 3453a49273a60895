"""The API server accepts what the chart renders for the Prometheus Operator, with that operator's own CRDs."""

from collections.abc import Iterator

import pytest
import yaml

from hack.errors import ToolError
from hack.go_build.monitoring_crds import monitoring_crds
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import wait_until_served
from tests.integration.api_server.conftest import Namespace
from tests.support.chart import Helm, Json

RELABELINGS = [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node", "action": "replace"}]
SCRAPED = {"enabled": True, "interval": "30s", "scrapeTimeout": "10s", "labels": {"release": "prometheus"}}
VALUES: dict[str, Json] = {
    "ServiceMonitor": {"serviceMonitor": {**SCRAPED, "relabelings": RELABELINGS}},
    "PodMonitor": {"podMonitor": {**SCRAPED, "relabelings": RELABELINGS}},
    "PrometheusRule": {"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}},
}


@pytest.fixture(scope="module")
def monitored(namespace: Namespace) -> Iterator[Kubectl]:
    """A namespace of a cluster that has these CRDs; those that it had before stay."""
    kubectl, files = namespace.kubectl, monitoring_crds()
    present = kubectl.run("get", "crds", "-o", "name").split()
    names = [yaml.safe_load(file.read_text())["metadata"]["name"] for file in files]
    missing = [name for name in names if f"customresourcedefinition.apiextensions.k8s.io/{name}" not in present]
    for name, file in zip(names, files, strict=True):
        if name in missing:
            kubectl.run("create", "-f", str(file))
    wait_until_served(kubectl, names)
    yield kubectl
    if missing:
        kubectl.run("delete", "crds", *missing, within_s=90)


def rendered(helm: Helm, kind: str, namespace: str) -> Json:
    found = helm.render(VALUES[kind]).one(kind)
    found["metadata"]["namespace"] = namespace
    return found


def try_to_create(kubectl: Kubectl, document: Json) -> Json:
    """As the API server would store it. An unknown field is an error, as in Prometheus' own operator it would be lost."""
    made = kubectl.run(
        *("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"), stdin=yaml.safe_dump(document)
    )
    stored: Json = yaml.safe_load(made)
    return stored


@pytest.mark.parametrize("kind", VALUES)
def test_the_api_server_accepts_and_keeps_all_that_is_rendered(monitored: Kubectl, helm: Helm, kind: str) -> None:
    document = rendered(helm, kind, monitored.namespace)
    assert try_to_create(monitored, document)["spec"] == document["spec"]


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("ServiceMonitor", ("endpoints", "interval", "soon"), "spec.endpoints[0].interval"),
        ("PodMonitor", ("podMetricsEndpoints", "scrapeTimeout", "10"), "spec.podMetricsEndpoints[0].scrapeTimeout"),
        ("ServiceMonitor", ("endpoints", "intervals", "30s"), 'unknown field "spec.endpoints[0].intervals"'),
    ],
)
def test_the_crds_refuse_what_the_prometheus_operator_would(
    monitored: Kubectl, helm: Helm, kind: str, path: tuple[str, str, str], message: str
) -> None:
    document, (endpoints, field, value) = rendered(helm, kind, monitored.namespace), path
    document["spec"][endpoints][0][field] = value
    with pytest.raises(ToolError) as refused:
        try_to_create(monitored, document)
    assert message in str(refused.value)
