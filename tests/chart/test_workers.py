"""The pods of backfills: the template of their Job, the operator's right to create it, and what they may reach."""

from typing import Any

import pytest
import yaml

from embedding_operator.process import EXIT_WITHIN_S
from hack.repository import CHART, RULES
from tests.chart.test_network import NAMES, chosen_by, tcp
from tests.support.chart import DATABASE, NO_CRDS, Helm, Json, workers_template

WORKER_RULES = CHART / "files" / "workers-rules.yaml"
MOUNT = "/etc/embedding-operator/workers"


def enabled(**own: Any) -> Json:
    return {"backfill": {"workers": {"enabled": True, **own}}}


def job_spec(helm: Helm, values: Json | None = None, **own: Any) -> Json:
    found: Json = workers_template(helm.render({**enabled(**own), **(values or {})}))["spec"]
    return found


def pod_spec(helm: Helm, values: Json | None = None, **own: Any) -> Json:
    found: Json = job_spec(helm, values, **own)["template"]["spec"]
    return found


def test_they_are_off_by_default_and_need_no_right(helm: Helm) -> None:
    rendered = helm.render()
    assert rendered.of("ConfigMap") == []
    assert rendered.one("Role")["rules"] == yaml.safe_load(RULES.read_text())
    assert "EMBEDDING_BACKFILL_POD_TEMPLATE_FILE" not in rendered.environment()


def test_enabled_they_add_their_rules_to_the_role_and_no_others(helm: Helm) -> None:
    rules = helm.render(enabled()).one("Role")["rules"]
    assert rules == [*yaml.safe_load(RULES.read_text()), *yaml.safe_load(WORKER_RULES.read_text())]


def test_the_operator_and_its_check_read_the_template_from_a_file(helm: Helm) -> None:
    rendered = helm.render(enabled())
    assert rendered.environment()["EMBEDDING_BACKFILL_POD_TEMPLATE_FILE"] == f"{MOUNT}/job.yaml"
    for pod in (rendered.pod(), rendered.one("Pod")["spec"]):
        name = rendered.one("ConfigMap")["metadata"]["name"]
        assert {"name": "workers", "configMap": {"name": name}} in pod["volumes"]
        assert {"name": "workers", "mountPath": MOUNT, "readOnly": True} in pod["containers"][0]["volumeMounts"]


def test_a_worker_has_no_service_account_token(helm: Helm) -> None:
    spec = pod_spec(helm)
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec


def test_a_worker_is_restricted_as_the_operator_is(each_helm: Helm) -> None:
    rendered = each_helm.render(enabled())
    spec, operator = workers_template(rendered)["spec"]["template"]["spec"], rendered.pod()
    assert spec["securityContext"] == operator["securityContext"]
    assert spec["restartPolicy"] == "Never"
    (container,) = spec["containers"]
    for field in ("image", "imagePullPolicy", "securityContext", "resources"):
        assert container[field] == rendered.container()[field]


def test_a_worker_has_the_operators_secrets_proxy_and_extra_volumes(helm: Helm) -> None:
    values: Json = {
        **enabled(),
        "gemini": {"existingSecret": "key"},
        "privateCA": {"configMap": "ca"},
        "proxy": {"httpsProxy": "http://proxy.example:3128"},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "imagePullSecrets": [{"name": "registry"}],
    }
    rendered = helm.render(values)
    spec = workers_template(rendered)["spec"]["template"]["spec"]
    (container,) = spec["containers"]

    def of_the_operator(items: list[Json]) -> list[Json]:
        return [it for it in items if "workers" not in it["name"] and "TEMPLATE" not in it["name"]]

    assert spec["volumes"] == of_the_operator(rendered.pod()["volumes"])
    assert container["volumeMounts"] == of_the_operator(rendered.container()["volumeMounts"])
    assert container["env"] == of_the_operator(rendered.container()["env"])
    assert spec["imagePullSecrets"] == [{"name": "registry"}]


def test_its_grace_period_is_longer_than_a_worker_needs_to_end(helm: Helm) -> None:
    assert pod_spec(helm)["terminationGracePeriodSeconds"] > EXIT_WITHIN_S


PLACED: dict[str, Any] = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "only", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
}


@pytest.mark.parametrize(("value", "given"), PLACED.items(), ids=PLACED)
def test_it_is_placed_as_the_operator_unless_it_has_a_value_of_its_own(helm: Helm, value: str, given: Any) -> None:
    own: Any = {"gpu": "yes"} if value == "nodeSelector" else given
    assert pod_spec(helm, {value: given})[value] == given
    assert pod_spec(helm, **{value: own})[value] == own
    if value == "nodeSelector":
        assert pod_spec(helm, {value: given}, **{value: own})[value] == own
        assert helm.render({**enabled(**{value: own}), value: given}).pod()[value] == given


def test_a_gpu_is_a_resource_of_the_workers_only(each_helm: Helm) -> None:
    gpu = {"limits": {"nvidia.com/gpu": 1}}
    rendered = each_helm.render(enabled(resources=gpu, runtimeClassName="nvidia"))
    spec = workers_template(rendered)["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"] == gpu
    assert spec["runtimeClassName"] == "nvidia"
    assert "nvidia.com/gpu" not in rendered.container()["resources"]["limits"]
    assert "runtimeClassName" not in rendered.pod()


def test_labels_for_a_queue_are_on_the_job_and_not_on_its_pods(helm: Helm) -> None:
    values = enabled(labels={"queue": "q"}, annotations={"a": "b"}, podLabels={"c": "d"}, podAnnotations={"e": "f"})
    template = workers_template(helm.render({**values, "podLabels": {"team": "search"}, "commonLabels": {"cost": "7"}}))
    job, pod = template["metadata"], template["spec"]["template"]["metadata"]
    assert (job["labels"]["queue"], job["labels"]["cost"], job["annotations"]) == ("q", "7", {"a": "b"})
    assert {"c": "d", "team": "search", "cost": "7"}.items() <= pod["labels"].items()
    assert pod["annotations"] == {"e": "f"}
    assert "queue" not in pod["labels"]
    assert {label["app.kubernetes.io/component"] for label in (job["labels"], pod["labels"])} == {"backfill-worker"}


def test_an_index_is_tried_again_as_often_as_the_value_says(each_helm: Helm) -> None:
    assert job_spec(each_helm)["backoffLimitPerIndex"] == 3
    assert job_spec(each_helm, backoffLimitPerIndex=0)["backoffLimitPerIndex"] == 0


def test_a_policy_lets_workers_reach_the_database_and_the_provider_and_nobody_reach_them(helm: Helm) -> None:
    rendered = helm.render({**enabled(), "networkPolicy": {"enabled": True}})
    policy = rendered.one("NetworkPolicy", "embedding-operator-workers")["spec"]
    worker = workers_template(rendered)["spec"]["template"]["metadata"]["labels"]
    assert chosen_by(policy["podSelector"], worker)
    assert "ingress" not in policy
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == [NAMES, tcp(443, 5432)]
    operators = rendered.one("NetworkPolicy", "embedding-operator")["spec"]["podSelector"]
    assert not chosen_by(operators, worker)
    assert not chosen_by(policy["podSelector"], rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"])


def test_neither_service_nor_deployment_selects_a_worker(helm: Helm) -> None:
    rendered = helm.render({**enabled(), "podDisruptionBudget": {"enabled": True}})
    worker = workers_template(rendered)["spec"]["template"]["metadata"]["labels"]
    assert not chosen_by({"matchLabels": rendered.one("Service")["spec"]["selector"]}, worker)
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert not chosen_by(rendered.one(kind)["spec"]["selector"], worker)


REFUSED: dict[str, tuple[Json, str]] = {
    "a label of the chart": (
        {"podLabels": {"app.kubernetes.io/name": "x"}},
        "backfill.workers.podLabels contains app.kubernetes.io/name, which the chart sets",
    ),
    "a label of Kubernetes": (
        {"podLabels": {"job-name": "x"}},
        "backfill.workers.podLabels contains job-name, which Kubernetes sets: remove it",
    ),
    "memory without a unit": (
        {"resources": {"limits": {"memory": 512}}},
        "backfill.workers.resources.limits.memory is 512, which is less than a megabyte",
    ),
    "a negative number": ({"backoffLimitPerIndex": -1}, "at '/backfill/workers/backoffLimitPerIndex': minimum: got -1"),
    "an unknown key": ({"replicas": 3}, "at '/backfill/workers': additional properties 'replicas' not allowed"),
}


@pytest.mark.parametrize(("own", "words"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_cannot_work_is_refused(each_helm: Helm, own: Json, words: str) -> None:
    assert words in each_helm.refusal({**DATABASE, **NO_CRDS, **enabled(**own)})


def test_a_volume_that_would_hide_the_template_is_refused(helm: Helm) -> None:
    values: Json = {"extraVolumes": [{"name": "more", "emptyDir": {}}]}
    values["extraVolumeMounts"] = [{"name": "more", "mountPath": MOUNT}]
    assert "the chart's folder for backfill.workers" in helm.refusal({**DATABASE, **NO_CRDS, **values})
