"""The alerts, tested by Prometheus' own program: each fires in its incident, where no other one does."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.metrics import Metrics
from hack.processes.run import run_to_end
from hack.release.chart_readme import VALUES
from hack.repository import CHART
from tests.support.chart import NAMESPACE, Helm, Json
from tests.support.fake_clock import FakeClock

ALERTS = CHART / "files" / "alerts.yaml"
RULES: dict[str, Json] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}
PREFIX = "EmbeddingOperator"
STATUSES = ("True", "False", "Unknown")
SOURCE = {"source": "businesses"}
Series = Mapping[str, str | None]
"""Series → values in promtool's notation, one for each minute; None removes the series."""


def of_source(metric: str, values: str | None) -> dict[str, str | None]:
    return {f'{metric}{{source="businesses"}}': values}


def condition(kind: str, status: str) -> dict[str, str | None]:
    """A condition that has this status all the time."""
    return {
        f'source_condition{{source="businesses",condition="{kind}",status="{it}"}}': always(int(it == status))
        for it in STATUSES
    }


def always(value: float) -> str:
    return f"{value}x1600"


HEALTHY: Series = {
    "leader{}": always(1),
    "database_up{}": always(1),
    'circuit_open{circuit="gemini"}': always(0),
    **condition("Ready", "True"),
    **condition("Stalled", "False"),
    **condition("Fresh", "True"),
    **condition("ProviderReady", "True"),
    **condition("ReembedRequired", "False"),
    **condition("DatabaseReady", "True"),
    **condition("RowsLocked", "False"),
    **of_source("rewritten_rows_total", always(7)),
    **of_source("sweep_seconds_count", "0+100x1600"),
    **of_source("oldest_due_seconds", always(0)),
    **of_source("source_suspended", always(0)),
    **of_source("backfill_active", always(0)),
    **of_source("source_dead_letters", always(3)),
    **of_source("dead_letter_limit_reached", always(0)),
    **of_source("texts_today", always(899_999)),
    **of_source("texts_per_day_limit", always(1_000_000)),
}
"""A release with one source, in which nothing is wrong."""
STALLED = {**condition("Ready", "False"), **condition("Stalled", "True"), **condition("Fresh", "Unknown")}
DUE = {**condition("Fresh", "False"), **of_source("oldest_due_seconds", "0+60x1600")}
BOTH_PODS_STAND_BY: Series = {"leader{}": always(0), 'leader{pod="second"}': always(0)}
AWAY = condition("DatabaseReady", "False")
TARGET = "freshness_target_seconds"
STANDBY: Series = {'leader{pod="second"}': always(0), 'database_up{pod="second"}': always(0)}


@dataclass(frozen=True)
class Incident:
    """What differs from HEALTHY. `labels` are those of the alert, besides its namespace; `shown` is $value in its description."""

    series: Series
    labels: Mapping[str, str] = field(default_factory=lambda: SOURCE)
    shown: str = ""
    at: str = "100m"


INCIDENTS: dict[str, Incident] = {
    "NoLeader": Incident(BOTH_PODS_STAND_BY, labels={}),
    "DatabaseDown": Incident({"database_up{}": always(0), **AWAY}, labels={}),
    "DatabaseNotReady": Incident(AWAY),
    "RowsLocked": Incident(condition("RowsLocked", "True")),
    "ProviderDown": Incident(
        {
            'circuit_open{circuit="gemini"}': always(1),
            'source_condition{source="businesses",condition="ProviderReady",status="False"}': "0x79 1x100",
        },
        labels={"circuit": "gemini"},
    ),
    "ProviderNotReady": Incident(condition("ProviderReady", "False")),
    "DayLimitNear": Incident(
        of_source("texts_today", always(900_000)), labels={**SOURCE, "limit": "textsPerDay"}, shown="90%"
    ),
    "SourceStalled": Incident(STALLED),
    "SourceNotReady": Incident(condition("Ready", "False")),
    "NoSweep": Incident(of_source("sweep_seconds_count", always(5))),
    "RowsNotFresh": Incident(DUE, shown="1h 40m 0s"),
    "DeadLettersGrowing": Incident(of_source("source_dead_letters", "3x80 13x100"), shown="10"),
    "DeadLetterLimit": Incident({**STALLED, **of_source("dead_letter_limit_reached", always(1))}),
    "RowsRewritten": Incident(of_source("rewritten_rows_total", "7x80 9x100")),
    "ApprovalNeeded": Incident(condition("ReembedRequired", "True"), at="25h"),
}
"""The alert without its prefix → a case in which it fires, and no other one."""
NO_ALERT: dict[str, Series] = {
    "nothing is wrong": {},
    "a second pod stands by and does not reach the database": STANDBY,
    "the source is suspended while rows are due": {**DUE, **of_source("source_suspended", always(1))},
    "a backfill takes hours": {**DUE, **of_source("backfill_active", always(1))},
    "rows are due for less than the threshold": {**DUE, **of_source("oldest_due_seconds", always(899))},
    "rows are due for less than the target of their source": {**DUE, **of_source(TARGET, always(7_200))},
    "another source has a shorter target": {
        **DUE,
        **of_source("oldest_due_seconds", always(899)),
        f'{TARGET}{{source="other"}}': always(60),
    },
    "rows are locked for nine minutes": {
        'source_condition{source="businesses",condition="RowsLocked",status="True"}': "0x89 1x8 0x20"
    },
    "the only rows that are due have a dead letter": of_source("oldest_due_seconds", "0+60x1600"),
    "there are nine more dead letters": of_source("source_dead_letters", "3x80 12x100"),
    "an operator with dead letters is replaced": {
        **of_source("source_dead_letters", "30x80 stale"),
        'source_dead_letters{source="businesses",pod="second"}': "_x80 30x100",
    },
    "the database is away for a minute": {"database_up{}": "1x98 0 0 1x20"},
    "the provider is away for four minutes": {'circuit_open{circuit="gemini"}': "0x95 1x4 0x20"},
    "the provider is throttled for twenty minutes": {
        'source_condition{source="businesses",condition="ProviderReady",status="False"}': "0x79 1x20"
    },
    "a change waits for an hour": condition("ReembedRequired", "True"),
    "a source is being set up for ten minutes": {
        'source_condition{source="businesses",condition="Ready",status="True"}': "1x89 0x20"
    },
    "the circuit of a provider that no source uses any more is open": {'circuit_open{circuit="gemini"}': always(1)},
    "another release has no leader": {'leader{namespace="other"}': always(0)},
}


@pytest.fixture(scope="module")
def rules(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as the chart renders them."""
    file = tmp_path_factory.mktemp("alerts") / "rules.yaml"
    file.write_text(yaml.safe_dump(helm.render({"prometheusRule": {"enabled": True}}).one("PrometheusRule")["spec"]))
    return file


def in_the_release(series: str) -> str:
    """The series with the labels of a target in the release."""
    name, _, labels = series.rstrip("}").partition("{")
    given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    whole = {"namespace": NAMESPACE, "pod": "first", **given}
    matchers = ",".join(f'{key}="{value}"' for key, value in whole.items())
    return f"embedding_operator_{name}{{{matchers}}}"


def shown(text: str, labels: Mapping[str, str], value: str) -> str:
    """What Prometheus makes of a template."""
    return re.sub(r"\{\{ \$(?:labels\.(\w+)|value.*?) \}\}", lambda it: labels[it[1]] if it[1] else value, text)


def firing(alert: str, incident: Incident) -> Json:
    rule, labels = RULES[alert], {"namespace": NAMESPACE, **incident.labels}
    annotations = {name: shown(text, labels, incident.shown) for name, text in rule["annotations"].items()}
    return {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": annotations}


def promtool_file(rules: Path, series: Series, at: str, fires: Mapping[str, Json]) -> Json:
    """A file for promtool: at this time these alerts fire, and no other one."""
    whole = {**HEALTHY, **series}
    given = [{"series": in_the_release(name), "values": values} for name, values in whole.items() if values]
    asked = [
        {"eval_time": at, "alertname": alert, "exp_alerts": [fires[alert]] if alert in fires else []} for alert in RULES
    ]
    test = {"interval": "1m", "input_series": given, "alert_rule_test": asked}
    return {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}


def run_test(promtool: Path, folder: Path, test: Json) -> None:
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    done = run_to_end([promtool, "test", "rules", file], within_s=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_an_incident() -> None:
    assert {f"{PREFIX}{name}" for name in INCIDENTS} == set(RULES)


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_alert_fires_in_its_incident_and_no_other_one(
    promtool: Path, rules: Path, tmp_path: Path, name: str
) -> None:
    alert, incident = f"{PREFIX}{name}", INCIDENTS[name]
    run_test(promtool, tmp_path, promtool_file(rules, incident.series, incident.at, {alert: firing(alert, incident)}))


@pytest.mark.parametrize("series", NO_ALERT.values(), ids=NO_ALERT)
def test_no_alert_fires_without_an_incident(promtool: Path, rules: Path, tmp_path: Path, series: Series) -> None:
    run_test(promtool, tmp_path, promtool_file(rules, series, "100m", {}))


def test_a_full_disk_is_told_although_a_row_is_locked_too(promtool: Path, rules: Path, tmp_path: Path) -> None:
    series = {**AWAY, **condition("RowsLocked", "True")}
    alerts = [f"{PREFIX}{name}" for name in ("DatabaseNotReady", "RowsLocked")]
    fires = {alert: firing(alert, Incident(series)) for alert in alerts}
    run_test(promtool, tmp_path, promtool_file(rules, series, "100m", fires))


def test_a_row_that_is_due_for_longer_than_the_target_of_its_source_is_late(
    promtool: Path, rules: Path, tmp_path: Path
) -> None:
    alert = f"{PREFIX}RowsNotFresh"
    series = {**DUE, **of_source("oldest_due_seconds", always(120)), **of_source(TARGET, always(60))}
    fires = {alert: firing(alert, Incident(series, shown="2m 0s"))}
    run_test(promtool, tmp_path, promtool_file(rules, series, "100m", fires))


@pytest.mark.parametrize(
    ("used", "most", "limit"),
    [
        ("tokens_today", "tokens_per_day_limit", "tokensPerDay"),
        ("estimated_cost_this_month", "estimated_cost_per_month_limit", "estimatedCostPerMonth"),
    ],
)
def test_each_limit_of_a_source_has_the_alert_before_it_is_reached(
    promtool: Path, rules: Path, tmp_path: Path, used: str, most: str, limit: str
) -> None:
    alert = f"{PREFIX}DayLimitNear"
    series = {**of_source(used, always(95)), **of_source(most, always(100))}
    fires = {alert: firing(alert, Incident(series, labels={**SOURCE, "limit": limit}, shown="95%"))}
    run_test(promtool, tmp_path, promtool_file(rules, series, "100m", fires))
    run_test(promtool, tmp_path, promtool_file(rules, {**series, **of_source(used, always(89))}, "100m", {}))


def test_a_release_without_pods_has_no_alert_for_a_leader(each_helm: Helm) -> None:
    rendered = each_helm.render({"replicas": 0, "prometheusRule": {"enabled": True}}).one("PrometheusRule")
    names = {rule["alert"] for rule in rendered["spec"]["groups"][0]["rules"]}
    assert set(RULES) - names == {f"{PREFIX}NoLeader"}


def test_an_operator_without_metrics_has_no_leader(promtool: Path, rules: Path, tmp_path: Path) -> None:
    alert = f"{PREFIX}NoLeader"
    fires = {alert: firing(alert, INCIDENTS["NoLeader"])}
    run_test(promtool, tmp_path, promtool_file(rules, dict.fromkeys(HEALTHY), "100m", fires))


def test_prometheus_accepts_the_rules_rendered_and_as_they_are(promtool: Path, rules: Path) -> None:
    done = run_to_end([promtool, "check", "rules", "--lint=all", "--lint-fatal", rules, ALERTS], within_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"SUCCESS: {len(RULES)} rules found") == 2


def selected(query: str) -> Iterator[tuple[str, str]]:
    """Each metric of the query, without what a histogram adds, and what is between its braces."""
    for name, matchers in re.findall(r"\b(embedding_operator_\w+)(?:\{([^}]*)\})?", query):
        yield name.removesuffix("_count"), matchers


@pytest.mark.parametrize("alert", RULES)
def test_a_query_names_metrics_and_labels_that_exist(alert: str) -> None:
    described = {metric.name: set(metric.labels) for metric in Metrics(clock=FakeClock()).described}
    for name, matchers in selected(RULES[alert]["expr"]):
        assert set(re.findall(r"(\w+)=", matchers)) <= described[name], name


@pytest.mark.parametrize(
    ("selector", "expected"), [("", f'namespace="{NAMESPACE}"'), ('job="eo",team=~"a|b",', 'job="eo",team=~"a|b"')]
)
def test_a_query_reads_the_series_of_the_release_only(each_helm: Helm, selector: str, expected: str) -> None:
    for rule in rendered_rules(each_helm, selector=selector).values():
        for name, matchers in selected(rule["expr"]):
            assert matchers.startswith(expected), name


def rendered_rules(helm: Helm, **values: Any) -> dict[str, Json]:
    found = helm.render({"prometheusRule": {"enabled": True, **values}}).one("PrometheusRule")
    return {rule["alert"]: rule for rule in found["spec"]["groups"][0]["rules"]}


def test_a_rule_has_the_labels_by_which_prometheus_selects_it(helm: Helm) -> None:
    found = helm.render({"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}})
    assert found.one("PrometheusRule")["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.parametrize(
    ("alert", "name", "value"),
    [
        ("RowsNotFresh", "oldestDueSeconds", 7_200_000),
        ("DeadLettersGrowing", "deadLettersPerHour", 42),
        ("DayLimitNear", "dayLimitRatio", 0.75),
    ],
)
def test_a_threshold_is_a_value(each_helm: Helm, alert: str, name: str, value: float) -> None:
    default = yaml.safe_load(VALUES.read_text())["prometheusRule"]["thresholds"][name]
    assert f" {default} # {name}\n" in RULES[f"{PREFIX}{alert}"]["expr"]
    query = rendered_rules(each_helm, thresholds={name: value})[f"{PREFIX}{alert}"]["expr"]
    assert re.search(rf"(>=?|\+) {value}$", query, re.MULTILINE)


def test_the_runbook_is_a_value(helm: Helm) -> None:
    for alert, rule in rendered_rules(helm, runbookUrlBase="https://wiki.example/embeddings").items():
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/embeddings#{alert.lower()}"


def test_by_default_the_runbook_is_that_of_the_file(helm: Helm) -> None:
    for alert, rule in rendered_rules(helm).items():
        assert rule["annotations"] == RULES[alert]["annotations"]
