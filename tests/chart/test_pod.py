"""The operator's pod: its command, its end, its restrictions, and the values that change it."""

from typing import Any

import pytest

from embedding_operator.process import EXIT_WITHIN_S
from tests.support.chart import DATABASE, NO_CRDS, Helm, Json, Objects

OF_THE_HOOK = {"helm.sh/hook": "test", "helm.sh/hook-delete-policy": "before-hook-creation"}
DIGEST = "sha256:" + "0a" * 32
IN_THE_POD: dict[str, tuple[str, Any]] = {
    "imagePullSecrets": ("imagePullSecrets", [{"name": "registry"}]),
    "priorityClassName": ("priorityClassName", "high"),
    "nodeSelector": ("nodeSelector", {"disk": "fast"}),
    "tolerations": ("tolerations", [{"key": "only", "operator": "Exists"}]),
    "affinity": ("affinity", {"nodeAffinity": {}}),
    "terminationGracePeriodSeconds": ("terminationGracePeriodSeconds", 60),
    "topologySpreadConstraints": (
        "topologySpreadConstraints",
        [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    ),
}


def check_pod(rendered: Objects) -> Json:
    found: Json = rendered.one("Pod")
    return found


def test_it_runs_the_operator(helm: Helm) -> None:
    container = helm.render().container()
    assert container["args"] == ["run"]
    assert "command" not in container  # the image's own
    assert container["image"] == "ghcr.io/yellowbook-dev/embedding-operator:0.1.0"
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"repository": "registry.example/op"}, "registry.example/op:0.1.0"),
        ({"tag": "0.2.0-rc1"}, "ghcr.io/yellowbook-dev/embedding-operator:0.2.0-rc1"),
        ({"digest": DIGEST}, f"ghcr.io/yellowbook-dev/embedding-operator@{DIGEST}"),
        ({"digest": DIGEST, "tag": "0.2.0"}, f"ghcr.io/yellowbook-dev/embedding-operator@{DIGEST}"),
    ],
)
def test_an_image_is_named_by_tag_or_exactly_by_digest(helm: Helm, image: Json, expected: str) -> None:
    rendered = helm.render({"image": image})
    assert rendered.container()["image"] == expected
    assert check_pod(rendered)["spec"]["containers"][0]["image"] == expected


@pytest.mark.parametrize("settings", [{}, {"localPort": None}, {"localPort": 9_000}])
def test_the_port_for_questions_about_rows_has_a_name_by_which_it_is_found(helm: Helm, settings: Json) -> None:
    ports = {port["name"]: port["containerPort"] for port in helm.render({"settings": settings}).container()["ports"]}
    assert ports == {"http": 8080, "local": settings.get("localPort") or 8081}


def test_an_images_pull_policy_is_a_value(helm: Helm) -> None:
    assert helm.render({"image": {"pullPolicy": "Never"}}).container()["imagePullPolicy"] == "Never"


@pytest.mark.parametrize("replicas", [0, 1, 2])
def test_it_has_as_many_pods_as_the_values_say(helm: Helm, replicas: int) -> None:
    assert helm.render({"replicas": replicas}).one("Deployment")["spec"]["replicas"] == replicas


def test_the_new_pod_stands_by_before_the_old_one_ends(helm: Helm) -> None:
    strategy = helm.render().one("Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_a_pod_holds_the_lease_under_its_own_name(helm: Helm) -> None:
    (named,) = [entry for entry in helm.render().container()["env"] if entry["name"] == "EMBEDDING_POD_NAME"]
    assert named["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_several_pods_are_spread_over_nodes_unless_the_values_say_otherwise(helm: Helm) -> None:
    assert "topologySpreadConstraints" not in helm.render().pod()
    rendered = helm.render({"replicas": 2})
    (spread,) = rendered.pod()["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert spread["labelSelector"]["matchLabels"] == rendered.one("Deployment")["spec"]["selector"]["matchLabels"]
    given = [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
    assert helm.render({"replicas": 2, "topologySpreadConstraints": given}).pod()["topologySpreadConstraints"] == given


def test_its_grace_period_is_longer_than_the_process_needs_to_end(helm: Helm) -> None:
    assert helm.render().pod()["terminationGracePeriodSeconds"] > EXIT_WITHIN_S


def test_a_rollout_without_progress_fails_before_helms_timeout(helm: Helm) -> None:
    helms_own_timeout_s = 300
    assert helm.render().one("Deployment")["spec"]["progressDeadlineSeconds"] < helms_own_timeout_s
    assert helm.render({"progressDeadlineSeconds": 900}).one("Deployment")["spec"]["progressDeadlineSeconds"] == 900


def test_its_probes_use_the_port_of_its_settings(helm: Helm) -> None:
    rendered = helm.render()
    container = rendered.container()
    assert container["ports"][0] == {"name": "http", "containerPort": 8080}
    assert "EMBEDDING_HTTP_PORT" not in rendered.environment()  # 8080 by default
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    healthz, readyz = {"path": "/healthz", "port": "http"}, {"path": "/readyz", "port": "http"}
    assert asked == {"startup": healthz, "liveness": healthz, "readiness": readyz}


@pytest.mark.parametrize(
    ("probe", "period_s", "failures"),
    [
        ("startup", 2, 30),  # a minute for imports and the first connections
        ("liveness", 10, 6),  # a minute more than the five minutes of /healthz
        ("readiness", 5, 2),
    ],
)
def test_its_probes_allow_time(helm: Helm, probe: str, period_s: int, failures: int) -> None:
    found = helm.render().container()[f"{probe}Probe"]
    del found["httpGet"]
    assert found == {"periodSeconds": period_s, "timeoutSeconds": 5, "failureThreshold": failures}


@pytest.mark.parametrize("value", ["progressDeadlineSeconds", "terminationGracePeriodSeconds"])
def test_a_long_time_is_written_as_a_whole_number(each_helm: Helm, value: str) -> None:
    """Helm reads a number as a float, and the API server refuses 2e+06."""
    text = each_helm.template({**DATABASE, **NO_CRDS, value: 2_000_000})
    assert f"{value}: 2000000\n" in text


def test_it_gets_no_variables_of_other_services(helm: Helm) -> None:
    """A Service named `embedding` would otherwise add variables with the prefix of the operator's settings."""
    assert helm.render().pod()["enableServiceLinks"] is False


def test_it_can_write_only_to_tmp(helm: Helm) -> None:
    rendered = helm.render()
    assert rendered.container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "tmp", "emptyDir": {}} in rendered.pod()["volumes"]
    writable = [mount for mount in rendered.container()["volumeMounts"] if not mount.get("readOnly")]
    assert writable == [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 (the pod's)


def test_it_runs_as_an_unprivileged_user(helm: Helm) -> None:
    security = helm.render().pod()["securityContext"]
    assert security == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_openshift_may_choose_its_user(each_helm: Helm) -> None:
    unset = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))
    security = each_helm.render({"podSecurityContext": unset}).pod()["securityContext"]
    assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_it_requests_what_it_uses_and_has_no_cpu_limit(helm: Helm) -> None:
    resources = helm.render().container()["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}
    changed = helm.render({"resources": {"limits": {"memory": "1Gi"}}}).container()["resources"]
    assert changed["limits"] == {"memory": "1Gi"}


@pytest.mark.parametrize(("value", "expected"), IN_THE_POD.items(), ids=IN_THE_POD)
def test_a_value_reaches_the_pods_spec(helm: Helm, value: str, expected: tuple[str, Any]) -> None:
    field, wanted = expected
    assert field not in helm.render().pod() or helm.render().pod()[field] != wanted
    assert helm.render({value: wanted}).pod()[field] == wanted


def test_extra_variables_and_volumes_come_after_the_charts(helm: Helm) -> None:
    extra: Json = {
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    }
    rendered, plain = helm.render(extra), helm.render()
    assert rendered.container()["env"] == [*plain.container()["env"], *extra["extraEnv"]]
    assert rendered.container()["volumeMounts"] == [*plain.container()["volumeMounts"], *extra["extraVolumeMounts"]]
    assert rendered.pod()["volumes"] == [*plain.pod()["volumes"], *extra["extraVolumes"]]


def test_annotations_and_labels_of_the_pod_are_not_on_the_deployment(helm: Helm) -> None:
    deployment = helm.render({"podAnnotations": {"a/b": "c"}, "podLabels": {"team": "search"}}).one("Deployment")
    template = deployment["spec"]["template"]["metadata"]
    assert template["annotations"] == {"a/b": "c"}
    assert template["labels"]["team"] == "search"
    assert "a/b" not in deployment["metadata"].get("annotations", {})
    assert "team" not in deployment["metadata"]["labels"]


def test_it_has_its_own_account_and_its_token(helm: Helm) -> None:
    rendered = helm.render()
    account = rendered.one("ServiceAccount")
    assert rendered.pod()["serviceAccountName"] == account["metadata"]["name"] == "embedding-operator"
    assert rendered.pod()["automountServiceAccountToken"] is True
    assert account["automountServiceAccountToken"] is False  # for every other pod


@pytest.mark.parametrize(
    ("values", "name", "made"),
    [
        ({"name": "own"}, "own", True),
        ({"create": False, "name": "theirs"}, "theirs", False),
    ],
)
def test_the_account_is_a_value(helm: Helm, values: Json, name: str, made: bool) -> None:
    rendered = helm.render({"serviceAccount": values})
    assert rendered.pod()["serviceAccountName"] == name
    assert [account["metadata"]["name"] for account in rendered.of("ServiceAccount")] == [name] * made
    assert rendered.one("RoleBinding")["subjects"][0]["name"] == name


def test_without_the_charts_role_the_account_may_be_the_default_one(helm: Helm) -> None:
    rendered = helm.render({"serviceAccount": {"create": False}, "rbac": {"create": False}})
    assert rendered.pod()["serviceAccountName"] == "default"
    assert rendered.of("ServiceAccount") == []


def test_the_account_can_be_annotated(helm: Helm) -> None:
    annotations = {"iam.example/role": "embedding"}
    rendered = helm.render({"serviceAccount": {"annotations": annotations}})
    assert rendered.one("ServiceAccount")["metadata"]["annotations"] == annotations


def test_the_check_of_helm_test_runs_like_the_operator(helm: Helm) -> None:
    """With the same image, environment, mounts and account; otherwise it would check something else."""
    values = {
        "gemini": {"existingSecret": "key"},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "privateCA": {"configMap": "ca"},
        "tolerations": [{"operator": "Exists"}],
    }
    rendered = helm.render(values)
    pod = check_pod(rendered)
    (check,) = pod["spec"]["containers"]
    assert (check["args"], pod["spec"]["restartPolicy"]) == (["check"], "Never")
    own = {"name", "args", "ports", "startupProbe", "livenessProbe", "readinessProbe"}
    assert {key: check[key] for key in set(check) - own} == {
        key: value for key, value in rendered.container().items() if key not in own
    }
    ends = {"containers", "terminationGracePeriodSeconds", "restartPolicy"}
    assert {key: value for key, value in pod["spec"].items() if key not in ends} == {
        key: value for key, value in rendered.pod().items() if key not in ends
    }


def test_a_finished_check_stays_until_the_next_one(helm: Helm) -> None:
    annotations = check_pod(helm.render())["metadata"]["annotations"]
    assert annotations == OF_THE_HOOK


def test_the_check_has_the_annotations_of_the_operators_pod(helm: Helm) -> None:
    """A service mesh that is enabled by annotations then works for both."""
    assert check_pod(helm.render({"podAnnotations": {"a/b": "c"}}))["metadata"]["annotations"] == {
        "a/b": "c",
        **OF_THE_HOOK,
    }
