"""Values that are null, for which Helm removes the default. Each has a meaning, or is refused by name."""

from typing import Any

import pytest

from tests.support.chart import DATABASE, NO_CRDS, Helm, Json

REQUIRED = [
    ("", "replicas"),
    ("", "terminationGracePeriodSeconds"),
    ("", "progressDeadlineSeconds"),
    ("image", "repository"),
    ("image", "pullPolicy"),
    ("crds", "install"),
    ("crds", "keep"),
    ("database", "existingSecretKey"),
    ("gemini", "existingSecretKey"),
    ("openai", "existingSecretKey"),
    ("privateCA", "key"),
    ("serviceAccount", "create"),
    ("rbac", "create"),
    ("rbac/userRoles", "create"),
    ("networkPolicy", "enabled"),
    ("networkPolicy", "egressPorts"),
    ("serviceMonitor", "enabled"),
    ("podMonitor", "enabled"),
    ("prometheusRule", "enabled"),
    ("grafanaDashboard", "enabled"),
    ("prometheusRule", "runbookUrlBase"),
    ("prometheusRule/thresholds", "oldestDueSeconds"),
    ("prometheusRule/thresholds", "deadLettersPerHour"),
    ("prometheusRule/thresholds", "dayLimitRatio"),
    ("postgresql", "enabled"),
    ("postgresql", "database"),
    ("postgresql/image", "repository"),
    ("postgresql/image", "tag"),
    ("postgresql/image", "pullPolicy"),
    ("postgresql/persistence", "enabled"),
    ("postgresql/persistence", "size"),
]
"""Group and key of each value that cannot be null."""
AS_BY_DEFAULT: dict[str, Json] = {
    "commonLabels": {"commonLabels": None},
    "podLabels": {"podLabels": None},
    "podAnnotations": {"podAnnotations": None},
    "nameOverride": {"nameOverride": None},
    "gemini.requestsPerMinute": {"gemini": {"requestsPerMinute": None}},
    "openai.requestsPerMinute": {"openai": {"requestsPerMinute": None}},
    "simulated.allowed": {"simulated": {"allowed": None}},
    "image.tag": {"image": {"tag": None}},
    "extraEnv": {"extraEnv": None},
    "tolerations": {"tolerations": None},
    "networkPolicy.ingressFrom": {"networkPolicy": {"ingressFrom": None}},
    "serviceMonitor.labels": {"serviceMonitor": {"labels": None}},
    "prometheusRule.selector": {"prometheusRule": {"selector": None}},
    "serviceAnnotations": {"serviceAnnotations": None},
    "deploymentAnnotations": {"deploymentAnnotations": None},
    "extraContainers": {"extraContainers": None},
    "initContainers": {"initContainers": None},
    "extraObjects": {"extraObjects": None},
    "serviceAccount.annotations": {"serviceAccount": {"annotations": None}},
}


def nulled(group: str, key: str) -> Json:
    values: dict[str, Any] = {key: None}
    for name in reversed(group.split("/") if group else []):
        values = {name: values}
    return {**DATABASE, **values, "database": {**DATABASE["database"], **values.get("database", {})}}


@pytest.mark.parametrize(("group", "key"), REQUIRED)
def test_null_is_refused_where_it_would_remove_something_silently(each_helm: Helm, group: str, key: str) -> None:
    said = each_helm.refusal(nulled(group, key))
    assert f"at '{group and f'/{group}'}': missing property '{key}'" in said
    assert said.count("- at ") == 1, said


@pytest.mark.parametrize("values", AS_BY_DEFAULT.values(), ids=AS_BY_DEFAULT)
def test_null_equals_a_default_that_is_empty(each_helm: Helm, values: Json) -> None:
    assert each_helm.template({**DATABASE, **NO_CRDS, **values}) == each_helm.template({**DATABASE, **NO_CRDS})


@pytest.mark.parametrize(
    ("given", "rendered"),
    [
        ({"limits": {"cpu": None}}, {"requests": {"cpu": "100m", "memory": "384Mi"}, "limits": {"memory": "768Mi"}}),
        ({"limits": {"memory": None}}, {"requests": {"cpu": "100m", "memory": "384Mi"}}),
        ({"requests": {"memory": 0}}, {"requests": {"cpu": "100m", "memory": 0}, "limits": {"memory": "768Mi"}}),
    ],
    ids=["a limit that is not set", "the limit that is set", "nothing is requested"],
)
def test_resources_can_be_removed(each_helm: Helm, given: Json, rendered: Json) -> None:
    found = each_helm.render({"resources": given}).container()["resources"]
    assert {kind: amounts for kind, amounts in found.items() if amounts} == rendered
