"""Values that the chart refuses: each with a sentence that names it, in Helm 3 and in Helm 4."""

from typing import Any

import pytest

from hack.control_plane.pins import pins
from hack.repository import CHART
from tests.support.chart import DATABASE, RELEASE, Helm, Json

URL = "postgresql://user:secret@db.example/yellow_book"
LONGEST = 2**31 - 1
WRONG: dict[str, tuple[Json, str]] = {
    "a wrong type": ({"replicas": "three"}, "at '/replicas': got string, want integer"),
    "more than one replica": ({"replicas": 2}, "at '/replicas': maximum: got 2, want 1"),
    "an unknown key": ({"replica": 1}, "at '': additional properties 'replica' not allowed"),
    "an unknown nested key": (
        {"settings": {"maxOpenjobs": 3}},
        "at '/settings': additional properties 'maxOpenjobs' not allowed",
    ),
    "a group that is removed": ({"gemini": None}, "at '': missing property 'gemini'"),
    "a nested group that is removed": ({"rbac": {"userRoles": None}}, "at '/rbac': missing property 'userRoles'"),
    "a number as a tag": ({"image": {"tag": 1.5}}, "at '/image/tag': got number, want string"),
    "a tag as a digest": ({"image": {"digest": "0.1.0"}}, "at '/image/digest': '0.1.0' does not match pattern"),
    "a pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of"),
    "a grace shorter than the drain": (
        {"terminationGracePeriodSeconds": 30},
        "at '/terminationGracePeriodSeconds': minimum: got 30, want 35",
    ),
    "a log level": ({"settings": {"logLevel": "loud"}}, "at '/settings/logLevel': value must be one of"),
    "too many jobs": (
        {"settings": {"maxOpenJobs": 5000}},
        "at '/settings/maxOpenJobs': maximum: got 5,000, want 1,500",
    ),
    "half a job": ({"settings": {"maxOpenJobs": 1.5}}, "at '/settings/maxOpenJobs': got number, want integer"),
    "a list as a mapping": ({"podLabels": ["a"]}, "at '/podLabels': got array, want object"),
    "a label that is no text": ({"podLabels": {"tier": 1}}, "at '/podLabels/tier': got number, want string"),
    "an endpoint without a scheme": (
        {"gemini": {"endpoint": "gemini.example"}},
        "at '/gemini/endpoint': 'gemini.example' does not match pattern",
    ),
    "a secret's name": (
        {"database": {"existingSecret": "No Such"}},
        "at '/database/existingSecret': 'No Such' does not match pattern",
    ),
    "a name of capitals": ({"nameOverride": "Search"}, "at '/nameOverride': 'Search' does not match pattern"),
    "a name that begins with a digit": (
        {"fullnameOverride": "1234"},
        "at '/fullnameOverride': '1234' does not match pattern",
    ),
    "a name that is too long": (
        {"fullnameOverride": "s" * 42},
        "at '/fullnameOverride': maxLength: got 42, want 41",
    ),
    "a label with a space": ({"podLabels": {"a": "b c"}}, "at '/podLabels/a': 'b c' does not match pattern"),
    "a common label with a space": (
        {"commonLabels": {"a": "b c"}},
        "at '/commonLabels/a': 'b c' does not match pattern",
    ),
    "a job that is kept without limit": (
        {"settings": {"finishedJobSeconds": 1e30}},
        "at '/settings/finishedJobSeconds': maximum: got",
    ),
    "an audit beyond any pace": (
        {"settings": {"auditRowsPerSecond": 1e30}},
        "at '/settings/auditRowsPerSecond': maximum: got",
    ),
    "a price beyond any": (
        {"settings": {"pricePerMillionTokens": 1e30}},
        "at '/settings/pricePerMillionTokens': maximum: got",
    ),
    "a grace without end": (
        {"terminationGracePeriodSeconds": LONGEST + 1},
        "at '/terminationGracePeriodSeconds': maximum: got",
    ),
    "a deadline without end": (
        {"progressDeadlineSeconds": LONGEST + 1},
        "at '/progressDeadlineSeconds': maximum: got",
    ),
    "a host without a name": (
        {"proxy": {"noProxy": [""]}},
        "at '/proxy/noProxy/0': minLength: got 0, want 1",
    ),
    "a variable that is a number": (
        {"extraEnv": [{"name": "TZ", "value": 1}]},
        "at '/extraEnv/0/value': got number, want string",
    ),
    "a port": ({"networkPolicy": {"egressPorts": [70000]}}, "at '/networkPolicy/egressPorts/0': maximum: got 70,000"),
    "a database's name": (
        {"postgresql": {"database": "yellow-book"}},
        "at '/postgresql/database': 'yellow-book' does not match pattern",
    ),
}
MISSING: dict[str, tuple[Json, str]] = {
    "no database": (
        {},
        "no database is given: set database.existingSecret to the name of a Secret that holds its URL (or database.url, or, "
        "to try out the operator, postgresql.enabled=true)",
    ),
    "a Secret and a URL": (
        {"database": {"existingSecret": "a", "url": URL}},
        "database.existingSecret and database.url are both set: keep one of them",
    ),
    "a URL and a PostgreSQL": (
        {"database": {"url": URL}, "postgresql": {"enabled": True, "password": "x"}},
        "database.url and postgresql.enabled are both set: keep one of them",
    ),
    "a Secret and a PostgreSQL": (
        {**DATABASE, "postgresql": {"enabled": True, "password": "x"}},
        "database.existingSecret and postgresql.enabled are both set: keep one of them",
    ),
    "no password": (
        {"postgresql": {"enabled": True}},
        "postgresql.password is empty: set a password, because the chart creates no random values",
    ),
    "two keys": (
        {**DATABASE, "gemini": {"apiKey": "k", "existingSecret": "s"}},
        "gemini.apiKey and gemini.existingSecret are both set: keep one of them",
    ),
    "the account that every pod uses": (
        {**DATABASE, "serviceAccount": {"create": False}},
        "serviceAccount.create=false without serviceAccount.name would give the operator's rights to every pod that uses the "
        "service account `default`: set serviceAccount.name to an account that only the operator uses (or rbac.create=false)",
    ),
    "two authorities": (
        {**DATABASE, "privateCA": {"configMap": "c", "secret": "s"}},
        "privateCA.configMap and privateCA.secret are both set: keep one of them",
    ),
}


@pytest.mark.parametrize(("values", "words"), WRONG.values(), ids=WRONG)
def test_the_schema_names_what_is_wrong(each_helm: Helm, values: Json, words: str) -> None:
    refusal = each_helm.refusal({**DATABASE, **values})
    assert words in refusal
    assert refusal.count("- at ") == 1, refusal


@pytest.mark.parametrize(("values", "words"), MISSING.values(), ids=MISSING)
def test_a_sentence_names_values_that_are_missing_or_conflict(each_helm: Helm, values: Json, words: str) -> None:
    refusal = each_helm.refusal(values)
    assert words in refusal
    assert "secret@" not in refusal


@pytest.mark.parametrize("release", ["1234", "my.search"])
def test_a_release_whose_name_no_service_can_have_is_refused(each_helm: Helm, release: str) -> None:
    refusal = each_helm.refusal(DATABASE, release=release)
    assert (
        f'release {release} gives objects the name "{release}-embedding-operator", but the name of a Service must begin with'
        in refusal
    )


@pytest.mark.parametrize("values", [{}, DATABASE], ids=["nothing given", "a database given"])
def test_lint_finds_nothing_in_the_chart(each_helm: Helm, values: dict[str, Any]) -> None:
    each_helm.run("lint", "--strict", "--kube-version", pins().kubernetes, str(CHART), values=values)


def test_an_older_kubernetes_is_refused(each_helm: Helm) -> None:
    done = each_helm.try_run("template", RELEASE, str(CHART), "--kube-version", "1.31.9", values=DATABASE)
    assert done.returncode != 0
    assert "chart requires kubeVersion: >=1.32.0-0" in done.stderr
