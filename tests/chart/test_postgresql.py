"""The PostgreSQL for trying out the operator: off by default, reachable for the operator, and as restricted as the operator."""

from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from embedding_worker.rows.database_url import unusable_url
from tests.support.chart import Helm, Json, Objects

NAME = "embedding-operator-postgresql"


def rendered_with(helm: Helm, values: Json | None = None, **postgresql: Any) -> Objects:
    given = {"enabled": True, "password": "s3cret", **postgresql}
    return helm.render({**(values or {}), "database": {}, "postgresql": given})


def pod(rendered: Objects) -> Json:
    found: Json = rendered.one("StatefulSet")["spec"]["template"]["spec"]
    return found


def container(rendered: Objects) -> Json:
    (found,) = pod(rendered)["containers"]
    assert isinstance(found, dict)
    return found


def test_it_is_off_by_default(helm: Helm) -> None:
    rendered = helm.render()
    assert not any("postgresql" in found["metadata"]["name"] for found in rendered)
    assert rendered.of("StatefulSet") == []


def test_the_operator_is_given_its_url(helm: Helm) -> None:
    rendered = rendered_with(helm)
    secret = rendered.secret("embedding-operator-database")
    assert secret == {"DATABASE_URL": f"postgresql://postgres:s3cret@{NAME}:5432/yellow_book"}
    (database,) = [volume for volume in rendered.pod()["volumes"] if volume["name"] == "database"]
    assert database["secret"]["secretName"] == "embedding-operator-database"
    port = rendered.one("Service", NAME)["spec"]["ports"][0]
    assert (port["port"], port["targetPort"]) == (5432, "postgresql")


@pytest.mark.parametrize("password", ["with space", "a+b", "p@ss:w/rd?#%", "ümläut", '"quoted"', "$(NAME)"])
def test_any_password_comes_through_the_url(helm: Helm, password: str) -> None:
    rendered = rendered_with(helm, password=password)
    url = rendered.secret("embedding-operator-database")["DATABASE_URL"]
    parts = urlsplit(url)
    assert unquote(parts.password or "") == password  # as libpq reads it: + stands for itself
    assert (parts.username, parts.hostname, parts.path) == ("postgres", NAME, "/yellow_book")
    assert not unusable_url(url)
    assert rendered.secret(NAME) == {"password": password}


def test_its_password_comes_as_a_file(helm: Helm) -> None:
    rendered = rendered_with(helm, database="directory")
    environment = {entry["name"]: entry["value"] for entry in container(rendered)["env"]}
    assert environment == {
        "POSTGRES_PASSWORD_FILE": "/etc/postgresql-secret/password",
        "POSTGRES_DB": "directory",
        "PGDATA": "/var/lib/postgresql/data",
    }
    mounts = {mount["mountPath"]: mount["name"] for mount in container(rendered)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(rendered)["volumes"]}
    assert volumes[mounts["/etc/postgresql-secret"]]["secret"] == {"secretName": NAME}
    encoded = b64encode(b"s3cret").decode()
    others = [str(found) for found in rendered if found["kind"] != "Secret"]
    assert not any(encoded in found or "s3cret" in found for found in others)


def test_pgvector_is_there_from_the_first_moment(helm: Helm) -> None:
    rendered = rendered_with(helm)
    assert list(rendered.one("ConfigMap", NAME)["data"].values()) == ["CREATE EXTENSION IF NOT EXISTS vector;"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container(rendered)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(rendered)["volumes"]}
    assert volumes[mounts["/docker-entrypoint-initdb.d"]]["configMap"] == {"name": NAME}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "docker.io/pgvector/pgvector:0.8.1-pg18"),
        ({"repository": "registry.example/pg", "tag": "18"}, "registry.example/pg:18"),
        ({"digest": "sha256:" + "0a" * 32}, "docker.io/pgvector/pgvector@sha256:" + "0a" * 32),
    ],
)
def test_its_image_is_a_value(helm: Helm, image: Json, expected: str) -> None:
    assert container(rendered_with(helm, image={**image, "pullPolicy": "Never"}))["image"] == expected
    assert container(rendered_with(helm, image={"pullPolicy": "Never"}))["imagePullPolicy"] == "Never"


def test_its_images_come_from_the_same_registry(helm: Helm) -> None:
    assert pod(rendered_with(helm, {"imagePullSecrets": [{"name": "r"}]}))["imagePullSecrets"] == [{"name": "r"}]


def test_its_data_ends_with_the_pod_by_default(helm: Helm) -> None:
    rendered = rendered_with(helm)
    assert {"name": "data", "emptyDir": {}} in pod(rendered)["volumes"]
    assert "volumeClaimTemplates" not in rendered.one("StatefulSet")["spec"]


@pytest.mark.parametrize(
    ("storage_class", "expected"),
    [
        ("", {}),
        ("fast", {"storageClassName": "fast"}),
        ("-", {"storageClassName": ""}),
        ("5", {"storageClassName": "5"}),
    ],
)
def test_its_data_may_be_kept(helm: Helm, storage_class: str, expected: Json) -> None:
    persistence = {"enabled": True, "size": "5Gi", "storageClass": storage_class}
    rendered = rendered_with(helm, persistence=persistence)
    (claim,) = rendered.one("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "5Gi"}},
        **expected,
    }
    assert {"name": "data", "mountPath": "/var/lib/postgresql"} in container(rendered)["volumeMounts"]
    assert "data" not in {volume["name"] for volume in pod(rendered)["volumes"]}


def test_a_claim_is_immutable_so_nothing_that_changes_is_in_it(helm: Helm) -> None:
    claims = [
        rendered_with(helm, {"commonLabels": labels}, persistence={"enabled": True}).one("StatefulSet")["spec"][
            "volumeClaimTemplates"
        ]
        for labels in ({}, {"team": "search"})
    ]
    assert claims[0] == claims[1]


def test_it_is_as_restricted_as_the_operator(helm: Helm) -> None:
    rendered = rendered_with(helm)
    assert container(rendered)["securityContext"] == rendered.container()["securityContext"]
    assert pod(rendered)["securityContext"]["runAsNonRoot"] is True
    assert pod(rendered)["securityContext"]["runAsUser"] == 999  # the image's own
    assert pod(rendered)["automountServiceAccountToken"] is False


def test_openshift_may_choose_its_user(each_helm: Helm) -> None:
    unset = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))
    security = pod(rendered_with(each_helm, podSecurityContext=unset))["securityContext"]
    assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_kubelet_checks_that_it_listens(helm: Helm) -> None:
    found = container(rendered_with(helm))
    assert found["ports"] == [{"name": "postgresql", "containerPort": 5432}]
    asked = {"tcpSocket": {"port": "postgresql"}}
    assert found["startupProbe"] == {
        **asked,
        "periodSeconds": 2,
        "failureThreshold": 60,
    }  # two minutes for the data folder
    assert found["readinessProbe"] == {**asked, "periodSeconds": 5}
    assert "livenessProbe" not in found  # a restart would not help


def test_it_may_write_what_postgresql_writes(helm: Helm) -> None:
    """Sockets, shared memory for indexes that are built in parallel, and its data: it can write nowhere else."""
    rendered = rendered_with(helm)
    volumes = {volume.pop("name"): volume for volume in pod(rendered)["volumes"]}
    writable = {
        mount["mountPath"]: volumes[mount["name"]]
        for mount in container(rendered)["volumeMounts"]
        if not mount.get("readOnly")
    }
    empty: Json = {"emptyDir": {}}
    assert writable == {
        "/var/lib/postgresql": empty,
        "/var/run/postgresql": empty,
        "/dev/shm": {"emptyDir": {"medium": "Memory"}},  # noqa: S108 (the pod's)
        "/tmp": empty,  # noqa: S108 (the pod's)
    }


def test_it_gets_no_variables_of_other_services(helm: Helm) -> None:
    assert pod(rendered_with(helm))["enableServiceLinks"] is False


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("nodeSelector", {"disk": "fast"}),
        ("tolerations", [{"key": "only", "operator": "Exists"}]),
        ("affinity", {"nodeAffinity": {}}),
    ],
)
def test_it_is_scheduled_like_the_operator(helm: Helm, value: str, wanted: object) -> None:
    assert value not in pod(rendered_with(helm))
    assert pod(rendered_with(helm, {value: wanted}))[value] == wanted


def test_its_resources_are_a_value(helm: Helm) -> None:
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert container(rendered_with(helm, resources=resources))["resources"] == resources


def test_with_policies_only_this_release_reaches_it(helm: Helm) -> None:
    rendered = rendered_with(helm, {"networkPolicy": {"enabled": True}})
    spec = rendered.one("NetworkPolicy", NAME)["spec"]
    assert spec["podSelector"] == rendered.one("StatefulSet")["spec"]["selector"]
    (rule,) = spec["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"].items() <= rendered.one("Pod")["metadata"]["labels"].items()
    assert rule["ports"] == [{"port": "postgresql", "protocol": "TCP"}]
    assert "egress" not in spec  # it opens no connections
