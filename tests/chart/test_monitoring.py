"""What Prometheus reads, and what users add: monitors, annotations, more containers and more objects."""

import json

import pytest

from hack.dashboard.grafana import FILE
from tests.support.chart import Helm, Json, workers_template

MONITORS = {"serviceMonitor": ("ServiceMonitor", "endpoints"), "podMonitor": ("PodMonitor", "podMetricsEndpoints")}
"""The value, and what it renders: a kind, and the field with its endpoints."""
PROXY: Json = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
each_monitor = pytest.mark.parametrize("value", MONITORS)


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor", "PrometheusRule"])
def test_nothing_of_the_prometheus_operator_is_rendered_by_default(helm: Helm, kind: str) -> None:
    """Its CRDs may be missing."""
    assert helm.render().of(kind) == []


@each_monitor
def test_a_monitor_reads_the_metrics_of_the_operators_pods(helm: Helm, value: str) -> None:
    kind, endpoints = MONITORS[value]
    rendered = helm.render({value: {"enabled": True}})
    spec = rendered.one(kind)["spec"]
    assert spec[endpoints] == [{"path": "/metrics", "port": "http"}]
    assert spec["selector"] == rendered.one("Deployment")["spec"]["selector"]
    labels = rendered.one("Service")["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()


@each_monitor
def test_the_settings_of_a_monitor_are_values(each_helm: Helm, value: str) -> None:
    kind, endpoints = MONITORS[value]
    relabelings = [{"targetLabel": "team", "replacement": "search"}]
    given = {"interval": "15s", "scrapeTimeout": "10s", "relabelings": relabelings}
    found = each_helm.render({value: {"enabled": True, "labels": {"release": "prometheus"}, **given}}).one(kind)
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert found["spec"][endpoints] == [{"path": "/metrics", "port": "http", **given}]


def test_the_dashboard_is_off_by_default(helm: Helm) -> None:
    assert [it for it in helm.render().of("ConfigMap") if it["metadata"]["name"].endswith("-dashboard")] == []


def test_the_dashboard_is_in_a_config_map_that_the_sidecar_of_grafana_selects(each_helm: Helm) -> None:
    found = each_helm.render({"grafanaDashboard": {"enabled": True}}).one("ConfigMap", "embedding-operator-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert "annotations" not in found["metadata"]
    assert json.loads(found["data"]["embedding-operator.json"]) == json.loads(FILE.read_text())


def test_the_dashboard_has_labels_annotations_and_a_folder_of_its_own(each_helm: Helm) -> None:
    given = {"labels": {"dashboards": "yes"}, "annotations": {"a": "b"}, "folder": "Search"}
    rendered = each_helm.render({"grafanaDashboard": {"enabled": True, **given}})
    found = rendered.one("ConfigMap", "embedding-operator-dashboard")
    assert found["metadata"]["labels"]["dashboards"] == "yes"
    assert found["metadata"]["annotations"] == {"a": "b", "grafana_folder": "Search"}


def test_service_and_deployment_have_annotations_of_their_own(helm: Helm) -> None:
    rendered = helm.render({"serviceAnnotations": {"a": "b"}, "deploymentAnnotations": {"c": "d"}})
    assert rendered.one("Service")["metadata"]["annotations"] == {"a": "b"}
    assert rendered.one("Deployment")["metadata"]["annotations"] == {"c": "d"}
    assert "annotations" not in rendered.one("Deployment")["spec"]["template"]["metadata"]


def test_extra_containers_are_in_the_operators_pod_only(each_helm: Helm) -> None:
    """In the pod of `helm test` they would keep it from ending."""
    shipper = {"name": "log-shipper", "image": "shipper:1", "ports": [{"containerPort": 9000}]}
    rendered = each_helm.render({"extraContainers": [shipper], "backfill": {"workers": {"enabled": True}}})
    assert [it["name"] for it in rendered.pod()["containers"]] == ["operator", "log-shipper"]
    assert rendered.pod()["containers"][1] == shipper
    assert [it["name"] for it in rendered.one("Pod")["spec"]["containers"]] == ["check"]
    worker = workers_template(rendered)["spec"]["template"]["spec"]
    assert [it["name"] for it in worker["containers"]] == ["worker"]


def test_init_containers_are_in_each_pod_that_connects_to_the_database(each_helm: Helm) -> None:
    rendered = each_helm.render({"initContainers": [PROXY], "backfill": {"workers": {"enabled": True}}})
    worker = workers_template(rendered)["spec"]["template"]["spec"]
    for pod in (rendered.pod(), rendered.one("Pod")["spec"], worker):
        assert pod["initContainers"] == [PROXY]


def test_extra_objects_are_templates(each_helm: Helm) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": 2_000_000}}}
    given = {**quota, "metadata": {"name": "{{ .Release.Name }}-more"}}
    rendered = each_helm.render({"extraObjects": [given, {**given, "metadata": {"name": "second"}}]})
    assert rendered.of("ResourceQuota") == [
        {**quota, "metadata": {"name": "embedding-operator-more"}},
        {**quota, "metadata": {"name": "second"}},
    ]
