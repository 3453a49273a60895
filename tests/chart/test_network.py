"""Service, NetworkPolicy and PodDisruptionBudget."""

from typing import Any

import pytest

from tests.support.chart import Helm, Json

ON = {"networkPolicy": {"enabled": True}}


def egress(helm: Helm, **values: Any) -> list[Json]:
    found: list[Json] = helm.render({"networkPolicy": {"enabled": True, **values}}).one("NetworkPolicy")["spec"][
        "egress"
    ]
    return found


def tcp(*ports: int) -> Json:
    return {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}


NAMES = {"ports": [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")]}
"""A policy applies to the port of the DNS pod: CoreDNS listens on 53, on OpenShift on 5353."""


def chosen_by(selector: Json, labels: dict[str, str]) -> bool:
    """Whether this label selector matches a pod with these labels, by the rules of Kubernetes."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        meets(labels, **expression) for expression in selector.get("matchExpressions", ())
    )


def meets(labels: dict[str, str], key: str, operator: str, values: tuple[str, ...] | list[str] = ()) -> bool:
    match operator:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise AssertionError(f"Kubernetes knows no operator {operator}")


def test_the_service_leads_to_metrics_and_health(helm: Helm) -> None:
    rendered = helm.render()
    (port,) = rendered.one("Service")["spec"]["ports"]
    assert port == {"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}
    assert port["targetPort"] in {of["name"] for of in rendered.container()["ports"]}


@pytest.mark.parametrize("kind", ["NetworkPolicy", "PodDisruptionBudget"])
def test_it_is_off_by_default(helm: Helm, kind: str) -> None:
    assert helm.render().of(kind) == []


def test_a_policy_allows_connections_to_metrics_and_health(helm: Helm) -> None:
    spec = helm.render(ON).one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]


def test_the_clients_of_metrics_and_health_can_be_restricted(helm: Helm) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    spec = helm.render({"networkPolicy": {"enabled": True, "ingressFrom": [peer]}}).one("NetworkPolicy")["spec"]
    assert spec["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}], "from": [peer]}]


def test_a_policy_allows_dns_https_api_server_and_postgresql(helm: Helm) -> None:
    assert egress(helm) == [NAMES, tcp(443, 6443, 5432)]


def test_the_allowed_ports_are_a_value(helm: Helm) -> None:
    assert egress(helm, egressPorts=[16443]) == [NAMES, tcp(16443)]
    assert egress(helm, egressPorts=[]) == [NAMES]


def test_more_rules_are_added(helm: Helm) -> None:
    proxy = {"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [{"port": 3128, "protocol": "TCP"}]}
    assert egress(helm, extraEgress=[proxy]) == [NAMES, tcp(443, 6443, 5432), proxy]


def test_a_policy_selects_operator_and_check(helm: Helm) -> None:
    rendered = helm.render({**ON, "postgresql": {"enabled": True, "password": "x"}, "database": {}})
    selector = rendered.one("NetworkPolicy", "embedding-operator")["spec"]["podSelector"]
    pods = {
        "operator": rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"],
        "check": rendered.one("Pod")["metadata"]["labels"],
        "postgresql": rendered.one("StatefulSet")["spec"]["template"]["metadata"]["labels"],
    }
    assert {name for name, labels in pods.items() if chosen_by(selector, labels)} == {"operator", "check"}
    other = {**pods["operator"], "app.kubernetes.io/instance": "of another release"}
    assert not chosen_by(selector, other)


def test_a_budget_never_blocks_a_drain(helm: Helm) -> None:
    spec = helm.render({"podDisruptionBudget": {"enabled": True}}).one("PodDisruptionBudget")["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert spec["selector"] == helm.render().one("Deployment")["spec"]["selector"]
