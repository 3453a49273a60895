"""extraEnv never sets a variable that a value sets, because Kubernetes would silently use the last of two with the same name."""

import re

import pytest
import yaml

from embedding_operator.settings import variables
from hack.release.chart_readme import VALUES
from tests.support.chart import DATABASE, NO_CRDS, Helm

ALIASES = variables()
NO_VALUE = {
    "EMBEDDING_HTTP_PORT": "extraEnv contains EMBEDDING_HTTP_PORT, but the probes, the Service and the NetworkPolicy use port "
    "8080: remove it",
    "EMBEDDING_NAMESPACE": "extraEnv contains EMBEDDING_NAMESPACE, but the operator has rights only in the release's namespace: "
    "install a release in the other namespace, with --namespace",
    "EMBEDDING_POD_NAME": "extraEnv contains EMBEDDING_POD_NAME, but each pod holds the Lease under its own name: remove it",
}
OUTSIDE_A_CLUSTER = "KUBECONFIG"


def refused(helm: Helm, name: str) -> str:
    return helm.refusal(
        {**DATABASE, **NO_CRDS, "extraEnv": [{"name": "TZ", "value": "UTC"}, {"name": name, "value": "x"}]}
    )


@pytest.mark.parametrize("name", sorted(ALIASES - {OUTSIDE_A_CLUSTER} - set(NO_VALUE)))
def test_a_setting_of_the_operator_is_set_by_a_value_that_there_is(helm: Helm, name: str) -> None:
    (path,) = re.findall(rf"extraEnv contains {name}, which the chart sets: set (\S+) instead", refused(helm, name))
    group, _, key = path.partition(".")
    values = yaml.safe_load(VALUES.read_text())[group]
    assert not key or key in values


@pytest.mark.parametrize(("name", "sentence"), NO_VALUE.items(), ids=NO_VALUE)
def test_port_namespace_and_pod_name_are_the_charts(each_helm: Helm, name: str, sentence: str) -> None:
    assert sentence in refused(each_helm, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL_FILE", "database.existingSecret"),
        ("GEMINI_API_KEY", "gemini.existingSecret"),
        ("OPENAI_API_KEY_FILE", "openai.existingSecret"),
        ("EMBEDDING_SIMULATED_ALLOWED", "simulated.allowed"),
        ("EMBEDDING_GEMINI_ENDPOINT", "gemini.endpoint"),
        ("EMBEDDING_GEMINI_TOKENS_PER_MINUTE", "gemini.tokensPerMinute"),
        ("EMBEDDING_MAX_OPEN_JOBS", "settings.maxOpenJobs"),
        ("HTTP_PROXY", "proxy.httpProxy"),
        ("https_proxy", "proxy.httpsProxy"),
        ("ALL_PROXY", "proxy.httpsProxy"),
        ("NO_PROXY", "proxy.noProxy"),
        ("REQUESTS_CA_BUNDLE", "privateCA.configMap"),
        ("SSL_CERT_FILE", "privateCA.configMap"),
    ],
)
def test_the_sentence_names_variable_and_value(each_helm: Helm, name: str, value: str) -> None:
    assert f"extraEnv contains {name}, which the chart sets: set {value} instead" in refused(each_helm, name)


@pytest.mark.parametrize("name", ["EMBEDDING_MAX_OPEN_JOB", "EMBEDDING_SETTINGS", "EMBEDDING_"])
def test_a_variable_that_no_value_sets_is_refused_without_one(each_helm: Helm, name: str) -> None:
    sentence = f"extraEnv contains {name}, which is no setting of this version: correct its name, or remove it"
    assert sentence in refused(each_helm, name)


def test_the_rate_limits_of_a_provider_that_the_image_has_besides_are_set_as_variables(helm: Helm) -> None:
    limit = {"name": "EMBEDDING_ACME_TEXTS_PER_MINUTE", "value": "100"}
    assert helm.render({"extraEnv": [limit]}).environment()[limit["name"]] == "100"


def test_every_variable_that_the_chart_sets_is_refused(helm: Helm) -> None:
    rendered = helm.render(
        {
            "gemini": {"existingSecret": "key", "endpoint": "https://gemini.example", "textsPerMinute": 9},
            "openai": {"existingSecret": "key", "textsPerMinute": 9},
            "simulated": {"allowed": True, "latencyMilliseconds": 9, "failureRate": 0.9, "refusedText": "POISON"},
            "proxy": {"httpProxy": "http://proxy.example", "httpsProxy": "http://proxy.example"},
            "privateCA": {"configMap": "ca"},
        }
    )
    for name in rendered.environment():
        assert f"extraEnv contains {name}, " in refused(helm, name)
