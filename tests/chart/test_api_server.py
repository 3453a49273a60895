"""A real API server accepts the rendered objects, and the restricted profile of Pod Security accepts the pods."""

import secrets
from collections.abc import Iterator

import pytest
import yaml

from hack.cluster_choice.choice import Cluster
from hack.installation.kubectl import Kubectl
from tests.support.chart import Helm, Json, Objects
from tests.support.chart_values import POSTGRESQL, VALUE_SETS

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


@pytest.fixture(scope="module")
def namespace(chart_cluster: Cluster) -> Iterator[Kubectl]:
    """A namespace that accepts only pods of the restricted profile."""
    kubectl = Kubectl(chart_cluster, f"restricted-{secrets.token_hex(4)}")
    metadata = {"name": kubectl.namespace, "labels": RESTRICTED}
    kubectl.run(
        "apply", "-f", "-", stdin=yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    )
    yield kubectl
    kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


def pods(rendered: Objects) -> dict[str, Json]:
    """The pod that each controller would create, and the pod of helm test."""
    made = {"check": rendered.one("Pod")}
    for workload in [*rendered.of("Deployment"), *rendered.of("StatefulSet")]:
        name = workload["metadata"]["name"]
        template = workload["spec"]["template"]
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())]
        claimed = [{"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}-0"}} for claim in claims]
        metadata = {**template["metadata"], "name": name}
        spec = {**template["spec"], "volumes": [*template["spec"]["volumes"], *claimed]}
        made[name] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return made


def dry_run(kubectl: Kubectl, *objects: Json) -> str:
    arguments = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
    done = kubectl.try_run(*arguments, stdin=yaml.safe_dump_all(objects))
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_the_api_server_accepts_every_object(namespace: Kubectl, helm: Helm, values: Json) -> None:
    rendered = helm.render(values, namespace=namespace.namespace, crds=True)
    assert dry_run(namespace, *rendered) == ""


def test_the_api_server_names_an_unknown_field(namespace: Kubectl, helm: Helm) -> None:
    deployment = helm.render(namespace=namespace.namespace).one("Deployment")
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 45
    assert 'unknown field "spec.template.spec.terminationGraceSeconds"' in dry_run(namespace, deployment)


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_pod_security_admits_every_pod_as_restricted(namespace: Kubectl, helm: Helm, values: Json) -> None:
    for name, pod in pods(helm.render(values, namespace=namespace.namespace)).items():
        assert dry_run(namespace, pod) == "", name


@pytest.mark.parametrize("name", ["embedding-operator", "embedding-operator-postgresql", "check"])
def test_pod_security_refuses_a_pod_without_one_of_its_restrictions(namespace: Kubectl, helm: Helm, name: str) -> None:
    pod = pods(helm.render(POSTGRESQL, namespace=namespace.namespace))[name]
    del pod["spec"]["containers"][0]["securityContext"]
    assert 'violates PodSecurity "restricted:latest"' in dry_run(namespace, pod)
