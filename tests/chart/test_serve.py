"""The second Deployment, which embeds search texts: its rights, its secrets, its placement, and who may connect to it."""

from typing import Any

import pytest
import yaml

from embedding_operator.cli.serve import EXIT_WITHIN_S
from embedding_operator.serve.settings import ServeSettings
from embedding_operator.settings import settings_of_kind
from hack.repository import SERVE_RULES
from tests.chart.test_network import NAMES, chosen_by, tcp
from tests.chart.test_workers import PLACED
from tests.support.chart import DATABASE, NO_CRDS, Helm, Json, Objects

NAME = "embedding-operator-serve"
KINDS = ("ServiceAccount", "Role", "RoleBinding", "Service", "Deployment")


def enabled(**own: Any) -> Json:
    return {"serve": {"enabled": True, **own}}


def pod(rendered: Objects) -> Json:
    found: Json = rendered.one("Deployment", NAME)["spec"]["template"]
    return found


def environment(rendered: Objects) -> dict[str, str]:
    (container,) = pod(rendered)["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "valueFrom" not in entry}


def test_it_is_off_by_default(helm: Helm) -> None:
    rendered = helm.render()
    assert [len(rendered.of(kind)) for kind in KINDS] == [1] * len(KINDS)
    assert NAME not in {it["metadata"]["name"] for it in rendered}


def test_its_account_may_read_sources_and_nothing_else(helm: Helm) -> None:
    rendered = helm.render(enabled())
    assert rendered.one("Role", NAME)["rules"] == yaml.safe_load(SERVE_RULES.read_text())
    assert [set(rule["verbs"]) for rule in rendered.one("Role", NAME)["rules"]] == [{"get", "list", "watch"}]
    (subject,) = rendered.one("RoleBinding", NAME)["subjects"]
    assert (subject["name"], pod(rendered)["spec"]["serviceAccountName"]) == (NAME, NAME)
    assert helm.render({**enabled(), "rbac": {"create": False}}).of("Role") == []


def test_it_gets_the_providers_secrets_and_not_the_databases(each_helm: Helm) -> None:
    values = {
        **enabled(existingSecret="token"),
        "gemini": {"existingSecret": "key"},
        "extraEnv": [{"name": "A", "value": "b"}],
    }
    rendered = each_helm.render(values)
    assert {volume["name"] for volume in pod(rendered)["spec"]["volumes"]} == {"tmp", "gemini", "serve-token"}
    (container,) = pod(rendered)["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {"tmp", "gemini", "serve-token"}
    assert environment(rendered) == {
        "EMBEDDING_SERVE_TEXTS_PER_MINUTE": "600",
        "EMBEDDING_SERVE_CACHED_VECTORS": "2000",
        "EMBEDDING_SERVE_TOKEN_FILE": "/etc/embedding-operator/serve/TOKEN",
        "GEMINI_API_KEY_FILE": "/etc/embedding-operator/gemini/GEMINI_API_KEY",
        "EMBEDDING_LOG_FORMAT": "json",
        "EMBEDDING_LOG_LEVEL": "info",
        "A": "b",
    }


def test_the_process_can_use_what_the_chart_sets(helm: Helm) -> None:
    read = settings_of_kind(ServeSettings, environment(helm.render(enabled(textsPerMinute=1_000_000, cachedVectors=0))))
    assert (read.texts_per_minute, read.cached_vectors, read.token) == (1_000_000, 0, None)


def test_it_is_restricted_as_the_operator_is(each_helm: Helm) -> None:
    rendered = each_helm.render(enabled())
    spec, (container,) = pod(rendered)["spec"], pod(rendered)["spec"]["containers"]
    assert spec["securityContext"] == rendered.pod()["securityContext"]
    for field in ("image", "imagePullPolicy", "securityContext", "resources"):
        assert container[field] == rendered.container()[field]
    slept_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > EXIT_WITHIN_S + slept_s


@pytest.mark.parametrize(("value", "given"), PLACED.items(), ids=PLACED)
def test_it_is_placed_as_the_operator_unless_it_has_a_value_of_its_own(helm: Helm, value: str, given: Any) -> None:
    own: Any = {"disk": "slow"} if value == "nodeSelector" else given
    assert pod(helm.render({**enabled(), value: given}))["spec"][value] == given
    assert pod(helm.render(enabled(**{value: own})))["spec"][value] == own
    assert value not in helm.render(enabled(**{value: own})).pod()


def test_the_service_and_the_budget_select_its_pods_and_not_the_operators(helm: Helm) -> None:
    rendered = helm.render({**enabled(), "podDisruptionBudget": {"enabled": True}})
    operator = rendered.one("Deployment", "embedding-operator")["spec"]["template"]["metadata"]["labels"]
    service = {"matchLabels": rendered.one("Service", NAME)["spec"]["selector"]}
    for selector in (
        service,
        *(rendered.one(kind, NAME)["spec"]["selector"] for kind in ("Deployment", "PodDisruptionBudget")),
    ):
        assert chosen_by(selector, pod(rendered)["metadata"]["labels"])
        assert not chosen_by(selector, operator)


def test_a_policy_lets_applications_and_prometheus_reach_it_and_it_never_reaches_the_database(helm: Helm) -> None:
    applications: Json = {"podSelector": {"matchLabels": {"app": "search"}}}
    prometheus: Json = {"namespaceSelector": {}}
    policies = {"enabled": True, "ingressFrom": [prometheus]}
    rendered = helm.render({**enabled(ingressFrom=[applications]), "networkPolicy": policies})
    policy = rendered.one("NetworkPolicy", NAME)["spec"]
    assert chosen_by(policy["podSelector"], pod(rendered)["metadata"]["labels"])
    assert not chosen_by(
        rendered.one("NetworkPolicy", "embedding-operator")["spec"]["podSelector"], pod(rendered)["metadata"]["labels"]
    )
    (ingress,) = policy["ingress"]
    assert ingress["from"] == [applications, prometheus]
    assert policy["egress"] == [NAMES, tcp(443, 6443)]
    (everyone,) = helm.render({**enabled(), "networkPolicy": policies}).one("NetworkPolicy", NAME)["spec"]["ingress"]
    assert "from" not in everyone


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_a_monitor_reads_its_metrics_too(helm: Helm, kind: str) -> None:
    rendered = helm.render({**enabled(), kind[0].lower() + kind[1:]: {"enabled": True}})
    selector = rendered.one(kind)["spec"]["selector"]
    for deployment in rendered.of("Deployment"):
        assert chosen_by(selector, deployment["spec"]["template"]["metadata"]["labels"])
    for service in rendered.of("Service"):
        assert chosen_by(selector, service["metadata"]["labels"])


REFUSED: dict[str, tuple[Json, str]] = {
    "no pod of a fraction": ({"replicas": 1.5}, "at '/serve/replicas'"),
    "no limit": ({"textsPerMinute": 0}, "at '/serve/textsPerMinute': minimum: got 0"),
    "an unknown key": ({"port": 80}, "at '/serve': additional properties 'port' not allowed"),
    "a secret's name": ({"existingSecret": "My Token"}, 'serve.existingSecret is "My Token", which is no name'),
    "a hook": ({"podAnnotations": {"helm.sh/hook": "x"}}, "serve.podAnnotations contains helm.sh/hook"),
    "memory without a unit": ({"resources": {"limits": {"memory": 512}}}, "serve.resources.limits.memory is 512"),
}


@pytest.mark.parametrize(("own", "words"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_cannot_work_is_refused(each_helm: Helm, own: Json, words: str) -> None:
    assert words in each_helm.refusal({**DATABASE, **NO_CRDS, **enabled(**own)})


def test_a_variable_of_its_settings_is_refused_with_the_value_to_set(helm: Helm) -> None:
    values: Json = {"extraEnv": [{"name": "EMBEDDING_SERVE_TOKEN", "value": "x"}]}
    assert "set serve.existingSecret instead" in helm.refusal({**DATABASE, **NO_CRDS, **values})
