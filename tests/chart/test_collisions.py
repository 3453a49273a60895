"""Names, paths, labels and variables that are the chart's own, or given twice: each is refused with a sentence."""

from typing import Any

import pytest

from tests.support.chart import DATABASE, NO_CRDS, Helm, Json

CHARTS = ("tmp", "database", "gemini", "openai", "private-ca")
"""The chart's volumes; three of them exist only with other values, which may be set later."""
HIDING: dict[str, str] = {
    "/": "which would hide /",
    "/tmp": "which is the chart's folder for temporary files",  # noqa: S108 (the pod's)
    "/tmp/": "which is the chart's folder for temporary files",  # noqa: S108 (the pod's)
    "//tmp/./": "which is the chart's folder for temporary files",
    "/etc": "which would hide /etc/embedding-operator/api-keys, the chart's folder for apiKeys",
    "/etc/embedding-operator": "which would hide /etc/embedding-operator/api-keys, the chart's folder for apiKeys",
    "/etc/embedding-operator/database": "which is the chart's folder for the database's URL",
    "/etc/embedding-operator/database/tls": "which is inside /etc/embedding-operator/database",
    "/etc/ssl/../embedding-operator/gemini": "which is the chart's folder for the API key",
    "/var": "which would hide /var/run/secrets/kubernetes.io/serviceaccount, the folder for the token",
    "/run/secrets": "which would hide /run/secrets/kubernetes.io/serviceaccount, the folder for the token",
    "/opt": "which would hide /opt/embedding-operator, the program's folder",
    "/usr": "which would hide /usr/bin, a folder of the image",
    "/proc/sys": "which is inside /proc, the kernel's",
    "/dev": "which is a folder of the system",
}
ALLOWED = (
    "/etc/ssl/certs",
    "/etc/embedding-operator/tls",
    "/etc/embedding-operator/database-tls",
    "/var/run/secrets/eks.amazonaws.com",
    "/dev/shm",  # noqa: S108 (the pod's)
    "/usr/local/share/ca-certificates",
    "/tmp/cache",  # noqa: S108 (the pod's)
    "/tmpfs",  # noqa: S108 (the pod's)
)
TWICE: dict[str, tuple[Json, str]] = {
    "two volumes": (
        {"extraVolumes": [{"name": "certs", "emptyDir": {}}, {"name": "certs", "secret": {"secretName": "s"}}]},
        "extraVolumes contains certs twice: give each volume a name of its own",
    ),
    "two mounts": (
        {
            "extraVolumes": [{"name": "certs", "emptyDir": {}}, {"name": "keys", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "certs", "mountPath": "/tls"}, {"name": "keys", "mountPath": "/tls/"}],
        },
        "extraVolumeMounts mounts keys at /tls/, where it also mounts certs: give each mount a path of its own",
    ),
    "two variables": (
        {"extraEnv": [{"name": "TZ", "value": "UTC"}, {"name": "TZ", "value": "CET"}]},
        "extraEnv contains TZ twice: remove one of them",
    ),
    "a container of the chart": (
        {"extraContainers": [{"name": "operator", "image": "a"}]},
        "extraContainers contains operator, which is the name of a container of the chart: give your container another name",
    ),
    "two containers": (
        {"extraContainers": [{"name": "proxy", "image": "a"}], "initContainers": [{"name": "proxy", "image": "a"}]},
        "initContainers contains proxy, a name that another container has: give each container a name of its own",
    ),
    "a variable with two values": (
        {"extraEnv": [{"name": "TZ", "value": "UTC", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
        "extraEnv gives TZ both value and valueFrom: keep one of them",
    ),
    "no volume": (
        {"extraVolumeMounts": [{"name": "certs", "mountPath": "/tls"}]},
        "extraVolumeMounts mounts certs, but extraVolumes contains no volume with this name: add it there",
    ),
    "a volume of the chart": (
        {"extraVolumeMounts": [{"name": "tmp", "mountPath": "/cache"}]},
        "extraVolumeMounts mounts tmp, which is a volume of the chart: mount a volume of extraVolumes",
    ),
}
SELECTED = "which the chart sets because its selectors need it: remove it, or use a label with another name"
LABELS: dict[str, tuple[Json, str]] = {
    "a selector's label of the pods": (
        {"podLabels": {"app.kubernetes.io/component": "x"}},
        f"podLabels contains app.kubernetes.io/component, {SELECTED}",
    ),
    "a selector's label of all objects": (
        {"commonLabels": {"app.kubernetes.io/instance": "x"}},
        f"commonLabels contains app.kubernetes.io/instance, {SELECTED}",
    ),
    "the chart's name": (
        {"commonLabels": {"helm.sh/chart": "x"}},
        "commonLabels contains helm.sh/chart, which the chart sets: remove it, or use a label with another name",
    ),
    "the chart's name of a monitor": (
        {"podMonitor": {"labels": {"helm.sh/chart": "x"}}},
        "podMonitor.labels contains helm.sh/chart, which the chart sets: remove it, or use a label with another name",
    ),
    "a label of Kubernetes": (
        {"podLabels": {"pod-template-hash": "x"}},
        "podLabels contains pod-template-hash, which Kubernetes sets: remove it",
    ),
    "an aggregation of roles": (
        {"commonLabels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "commonLabels contains rbac.authorization.k8s.io/aggregate-to-view, which would add the chart's ClusterRoles to other",
    ),
    "a hook": (
        {"podAnnotations": {"helm.sh/hook": "post-install"}},
        "podAnnotations contains helm.sh/hook, with which Helm would treat the object as another one: remove it",
    ),
    "a hook of the Service": (
        {"serviceAnnotations": {"helm.sh/hook": "post-install"}},
        "serviceAnnotations contains helm.sh/hook, with which Helm would treat the object as another one: remove it",
    ),
    "a release": (
        {"serviceAccount": {"annotations": {"meta.helm.sh/release-name": "x"}}},
        "serviceAccount.annotations contains meta.helm.sh/release-name, with which Helm would treat the object as another",
    ),
}


def refusal(helm: Helm, values: Json) -> str:
    return helm.refusal({**DATABASE, **NO_CRDS, **values})


def mounted_at(path: str) -> Json:
    mounts = [{"name": "certs", "mountPath": path}]
    return {"extraVolumes": [{"name": "certs", "emptyDir": {}}], "extraVolumeMounts": mounts}


@pytest.mark.parametrize("name", CHARTS)
def test_a_volume_with_a_name_of_the_chart_is_refused(each_helm: Helm, name: str) -> None:
    """Helm 3 would merge both into one, and remove it when the value is removed."""
    said = refusal(each_helm, {"extraVolumes": [{"name": name, "emptyDir": {}}]})
    assert f"extraVolumes contains {name}, which is the name of a volume of the chart: give your volume another" in said


def test_every_volume_and_path_that_the_chart_renders_is_refused(helm: Helm) -> None:
    keys = {group: {"existingSecret": "key"} for group in ("gemini", "openai")}
    everything: Json = {**keys, "privateCA": {"configMap": "ca"}}
    rendered = helm.render(everything)
    assert {volume["name"] for volume in rendered.pod()["volumes"]} == set(CHARTS)
    for mount in rendered.container()["volumeMounts"]:
        assert f"at {mount['mountPath']}, which is the chart's folder" in refusal(helm, mounted_at(mount["mountPath"]))


@pytest.mark.parametrize(("path", "words"), HIDING.items(), ids=HIDING)
def test_a_mount_that_hides_what_the_operator_needs_is_refused(helm: Helm, path: str, words: str) -> None:
    said = refusal(helm, mounted_at(path))
    assert f"extraVolumeMounts mounts certs at {path}, {words}" in said
    assert said.rstrip().partition("\n")[0].endswith(": choose another path")


@pytest.mark.parametrize("path", ALLOWED)
def test_a_mount_at_another_path_is_accepted(helm: Helm, path: str) -> None:
    mounts = helm.render(mounted_at(path)).container()["volumeMounts"]
    assert mounts[-1] == {"name": "certs", "mountPath": path}


def test_a_volume_that_is_mounted_nowhere_is_accepted(helm: Helm) -> None:
    """A sidecar that a webhook adds may mount it."""
    volume = {"name": "certs", "emptyDir": {}}
    assert helm.render({"extraVolumes": [volume]}).pod()["volumes"][-1] == volume


@pytest.mark.parametrize(("values", "words"), TWICE.values(), ids=TWICE)
def test_what_is_given_twice_or_not_at_all_is_refused(each_helm: Helm, values: Json, words: str) -> None:
    assert words in refusal(each_helm, values)


@pytest.mark.parametrize(("values", "words"), LABELS.values(), ids=LABELS)
def test_a_label_or_annotation_that_is_set_for_the_user_is_refused(each_helm: Helm, values: Json, words: str) -> None:
    assert words in refusal(each_helm, values)


def test_every_label_of_every_object_is_refused_as_a_common_label(helm: Helm) -> None:
    rendered = helm.render({"postgresql": {"enabled": True, "password": "x"}, "database": {}})
    set_by_chart: set[Any] = {label for found in rendered for label in found["metadata"]["labels"]}
    for label in set_by_chart:
        assert f"commonLabels contains {label}, which " in refusal(helm, {"commonLabels": {label: "x"}})


def test_a_version_of_the_pods_may_be_a_label(helm: Helm) -> None:
    """The chart sets it on objects, but not on pods, because a new version of the chart would restart them."""
    labels = helm.render({"podLabels": {"app.kubernetes.io/version": "1"}}).one("Deployment")["spec"]["template"]
    assert labels["metadata"]["labels"]["app.kubernetes.io/version"] == "1"
