"""Each value is documented once, is in the schema, and reaches the object that it names."""

import json
from typing import Any

import pytest
import yaml

from embedding_operator.settings import PREFIX, settings_from, variables
from hack.release.chart_readme import README, SCHEMA, VALUES, up_to_date_readme
from tests.support.chart import Helm, Json, settings_of

DEFAULTS: Json = yaml.safe_load(VALUES.read_text())
RATE_LIMITS = {
    f"EMBEDDING_{group.upper()}_{kind.upper()}_PER_MINUTE": (group, f"{kind}PerMinute")
    for group in ("gemini", "openai")
    for kind in ("requests", "texts", "tokens")
}
"""Group and value of each rate limit, by their variables."""
SIMULATED: dict[str, tuple[str, object]] = {
    "EMBEDDING_SIMULATED_ALLOWED": ("allowed", True),
    "EMBEDDING_SIMULATED_LATENCY_MS": ("latencyMilliseconds", 200),
    "EMBEDDING_SIMULATED_FAILURE_RATE": ("failureRate", 0.25),
    "EMBEDDING_SIMULATED_REFUSED_TEXT": ("refusedText", "POISON: 1"),
}
"""The values of group simulated, by their variables, with an example of each."""
TEMPLATE = "EMBEDDING_BACKFILL_POD_TEMPLATE_FILE"
POD = {"EMBEDDING_NAMESPACE", "EMBEDDING_POD_NAME", "EMBEDDING_HTTP_PORT"}
NOT_A_VALUE = {*POD, TEMPLATE, "EMBEDDING_API_KEYS", "EMBEDDING_GEMINI_ENDPOINT", *RATE_LIMITS, *SIMULATED}
"""Not values of group settings: the pod's own names; a fixed port; a file of the chart; apiKeys; those of providers."""


def own_paths(node: Any, prefix: str = "") -> set[str]:
    """Every key that a schema names, including nested ones."""
    paths = set()
    for key, below in node.get("properties", {}).items():
        paths |= {prefix + key, *own_paths(below, f"{prefix}{key}.")}
    return paths


def given_paths(values: Json, known: set[str], prefix: str = "") -> set[str]:
    """Every key of values.yaml, without those of Kubernetes' own structures."""
    paths = set()
    for key, value in values.items():
        paths.add(path := prefix + key)
        if isinstance(value, dict) and any(other.startswith(f"{path}.") for other in known):
            paths |= given_paths(value, known, f"{path}.")
    return paths


def objects_in(node: Any) -> list[Json]:
    if isinstance(node, list):
        return [found for child in node for found in objects_in(child)]
    if not isinstance(node, dict):
        return []
    return [
        *([node] if "properties" in node else []),
        *(found for child in node.values() for found in objects_in(child)),
    ]


def test_the_readmes_table_is_generated_from_values_yaml() -> None:
    assert README.read_text() == up_to_date_readme(), "make format"


def test_the_schema_contains_every_value_and_no_other() -> None:
    known = own_paths(json.loads(SCHEMA.read_text()))
    assert given_paths(DEFAULTS, known) == known - {"global", "enabled"}


def test_no_object_of_the_schema_allows_an_unknown_key() -> None:
    for found in objects_in(json.loads(SCHEMA.read_text())):
        assert found["additionalProperties"] is False, sorted(found["properties"])


def test_the_defaults_are_the_operators(helm: Helm) -> None:
    assert settings_of(helm.render()) == settings_from({"DATABASE_URL": "postgresql://u@h/d"})


def test_every_setting_of_the_operator_is_a_value() -> None:
    named = {f"{PREFIX}{_snake(name)}" for name in DEFAULTS["settings"]}
    assert named == {name for name in variables() if PREFIX in name} - NOT_A_VALUE


def _snake(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name)


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("intervalSeconds", 2.5, "interval_s"),
        ("maxOpenJobs", 1400, "max_open_jobs"),
        ("maxFinishedJobs", 0, "max_finished_jobs"),
        ("finishedJobSeconds", 2_000_000, "finished_job_age_s"),
        ("auditRowsPerSecond", 1_000_000, "audit_rows_per_s"),
        ("pricePerMillionTokens", 0.15, "price_per_million_tokens"),
        ("localPort", 9_000, "local_port"),
        ("logFormat", "console", "log_format"),
        ("logLevel", "debug", "log_level"),
    ],
)
def test_a_setting_reaches_the_operator(each_helm: Helm, name: str, value: object, field: str) -> None:
    assert getattr(settings_of(each_helm.render({"settings": {name: value}})), field) == value


def test_a_whole_number_is_never_written_with_an_exponent(each_helm: Helm) -> None:
    """The operator would accept 2e+06 as a number of seconds, and refuse it as a number of jobs."""
    rendered = each_helm.render({"settings": {"finishedJobSeconds": 2_000_000}})
    assert rendered.environment()["EMBEDDING_FINISHED_JOB_SECONDS"] == "2000000"


def test_a_setting_that_is_null_has_the_operators_default(each_helm: Helm) -> None:
    assert "EMBEDDING_LOG_LEVEL" not in each_helm.render({"settings": {"logLevel": None}}).environment()


def test_geminis_endpoint_reaches_the_operator(helm: Helm) -> None:
    rendered = helm.render({"gemini": {"endpoint": "https://gemini.example/v1"}})
    assert settings_of(rendered).provider_values()["EMBEDDING_GEMINI_ENDPOINT"] == "https://gemini.example/v1"


@pytest.mark.parametrize(("variable", "value"), RATE_LIMITS.items())
def test_a_providers_rate_limits_reach_the_operator(each_helm: Helm, variable: str, value: tuple[str, str]) -> None:
    group, name = value
    rendered = each_helm.render({group: {name: 5_000_000}})
    assert {found for found in rendered.environment() if found in RATE_LIMITS} == {variable}
    assert settings_of(rendered).provider_values()[variable] == "5000000"


@pytest.mark.parametrize(("variable", "value"), SIMULATED.items())
def test_what_the_simulated_provider_does_reaches_the_operator(
    helm: Helm, variable: str, value: tuple[str, object]
) -> None:
    name, example = value
    rendered = helm.render({"simulated": {name: example}})
    written = "true" if example is True else str(example)
    assert settings_of(rendered).provider_values() == {variable: written}
