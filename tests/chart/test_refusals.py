"""Values that the chart refuses: each with a sentence that names it, in Helm 3 and in Helm 4."""

from typing import Any

import pytest
import yaml

from hack.control_plane.pins import pins
from hack.repository import CHART
from tests.support.chart import DATABASE, RELEASE, Helm, Json

URL = "postgresql://user:secret@db.example/yellow_book"
LONGEST = 2**31 - 1
WRONG: dict[str, tuple[Json, str]] = {
    "a wrong type": ({"replicas": "three"}, "at '/replicas': got string, want integer"),
    "too many replicas": ({"replicas": 11}, "at '/replicas': maximum: got 11, want 10"),
    "an unknown key": ({"replica": 1}, "at '': additional properties 'replica' not allowed"),
    "an unknown nested key": (
        {"settings": {"maxOpenjobs": 3}},
        "at '/settings': additional properties 'maxOpenjobs' not allowed",
    ),
    "a group that is removed": ({"gemini": None}, "at '': missing property 'gemini'"),
    "a nested group that is removed": ({"rbac": {"userRoles": None}}, "at '/rbac': missing property 'userRoles'"),
    "a number as a tag": ({"image": {"tag": 1.5}}, "at '/image/tag': got number, want string"),
    "a pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of"),
    "a grace shorter than the drain": (
        {"terminationGracePeriodSeconds": 20},
        "at '/terminationGracePeriodSeconds': minimum: got 20, want 25",
    ),
    "a rate limit below 0": (
        {"gemini": {"requestsPerMinute": -1}},
        "at '/gemini/requestsPerMinute': minimum: got -1, want 0",
    ),
    "a rate limit that is no whole number": (
        {"gemini": {"tokensPerMinute": 0.5}},
        "at '/gemini/tokensPerMinute': got number, want integer",
    ),
    "a log level": ({"settings": {"logLevel": "loud"}}, "at '/settings/logLevel': value must be one of"),
    "too many jobs": (
        {"settings": {"maxOpenJobs": 5000}},
        "at '/settings/maxOpenJobs': maximum: got 5,000, want 1,500",
    ),
    "half a job": ({"settings": {"maxOpenJobs": 1.5}}, "at '/settings/maxOpenJobs': got number, want integer"),
    "a list as a mapping": ({"podLabels": ["a"]}, "at '/podLabels': got array, want object"),
    "a label that is no text": ({"podLabels": {"tier": 1}}, "at '/podLabels/tier': got number, want string"),
    "a name that is too long": (
        {"fullnameOverride": "s" * 42},
        "at '/fullnameOverride': maxLength: got 42, want 41",
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
    "a port twice": (
        {"networkPolicy": {"egressPorts": [443, 443]}},
        "at '/networkPolicy/egressPorts': items at 0 and 1 are equal",
    ),
    "an empty client": (
        {"networkPolicy": {"ingressFrom": [{}]}},
        "at '/networkPolicy/ingressFrom/0': minProperties: got 0, want 1",
    ),
    "a value that there is not": ({"namespace": "other"}, "at '': additional properties 'namespace' not allowed"),
    "a peer that is misspelt": (
        {"networkPolicy": {"ingressFrom": [{"namespaceSelectors": {}}]}},
        "at '/networkPolicy/ingressFrom/0': additional properties 'namespaceSelectors' not allowed",
    ),
    "a label's name": ({"podLabels": {"a b": "c"}}, "at '/podLabels': additional properties 'a b' not allowed"),
    "an annotation's name": (
        {"podAnnotations": {"a/b/c": "d"}},
        "at '/podAnnotations': additional properties 'a/b/c' not allowed",
    ),
    "resources without requests and limits": (
        {"resources": {"memory": "1Gi"}},
        "at '/resources': additional properties 'memory' not allowed",
    ),
    "a part of more than all": (
        {"prometheusRule": {"thresholds": {"dayLimitRatio": 90}}},
        "at '/prometheusRule/thresholds/dayLimitRatio': maximum: got 90, want 1",
    ),
    "a container without an image": (
        {"extraContainers": [{"name": "proxy"}]},
        "at '/extraContainers/0': missing property 'image'",
    ),
    "an object without a kind": (
        {"extraObjects": [{"apiVersion": "v1", "metadata": {"name": "a"}}]},
        "at '/extraObjects/0': missing property 'kind'",
    ),
}
WRITTEN: dict[str, tuple[Json, str]] = {
    "a tag as a digest": ({"image": {"digest": "0.1.0"}}, 'image.digest is "0.1.0", which is no digest of an image'),
    "a secret's name": (
        {"database": {"existingSecret": "No Such"}},
        'database.existingSecret is "No Such", which is no name of an object in Kubernetes',
    ),
    "a name of capitals": (
        {"nameOverride": "Search"},
        'nameOverride is "Search", which is no part of a name in Kubernetes',
    ),
    "a name that begins with a digit": (
        {"fullnameOverride": "1234"},
        'fullnameOverride is "1234", which is no name of a Service',
    ),
    "a label with a space": ({"podLabels": {"a": "b c"}}, 'podLabels.a is "b c", which is no value of a label'),
    "a common label with a space": (
        {"commonLabels": {"a": "b c"}},
        'commonLabels.a is "b c", which is no value of a label',
    ),
    "a Secret's name with a dash at the end": (
        {"gemini": {"existingSecret": "key-"}},
        'gemini.existingSecret is "key-", which is no name of an object in Kubernetes',
    ),
    "a ConfigMap's name with an empty part": (
        {"privateCA": {"configMap": "a..b"}},
        'privateCA.configMap is "a..b", which is no name of an object in Kubernetes',
    ),
    "a key that leads out of its folder": (
        {"privateCA": {"secret": "a", "key": ".."}},
        'privateCA.key is "..", which is no key of a Secret or a ConfigMap',
    ),
    "a Secret of the registry": (
        {"imagePullSecrets": [{"name": "My_Registry"}]},
        'imagePullSecrets.0.name is "My_Registry", which is no name of an object in Kubernetes',
    ),
    "an account's name": (
        {"serviceAccount": {"name": "ns/account"}},
        'serviceAccount.name is "ns/account", which is no name of an object in Kubernetes',
    ),
    "a priority": (
        {"priorityClassName": "High"},
        'priorityClassName is "High", which is no name of an object in Kubernetes',
    ),
    "a node's label": ({"nodeSelector": {"disk": "a b"}}, 'nodeSelector.disk is "a b", which is no value of a label'),
    "a variable's name": (
        {"extraEnv": [{"name": "A=B", "value": "c"}]},
        'extraEnv.0.name is "A=B", which is no name of a variable',
    ),
    "a relative path": (
        {"extraVolumes": [{"name": "a"}], "extraVolumeMounts": [{"name": "a", "mountPath": "certs"}]},
        'extraVolumeMounts.0.mountPath is "certs", which is no absolute path',
    ),
    "an interval without a unit": (
        {"serviceMonitor": {"interval": "30"}},
        'serviceMonitor.interval is "30", which is no duration of Prometheus',
    ),
    "a page with an anchor": (
        {"prometheusRule": {"runbookUrlBase": "https://wiki.example/runbook#top"}},
        'prometheusRule.runbookUrlBase is "https://wiki.example/runbook#top", which is no URL of a page',
    ),
    "matchers with braces": (
        {"prometheusRule": {"selector": '{namespace="search"}'}},
        'prometheusRule.selector is "{namespace=\\"search\\"}", which is no list of matchers',
    ),
    "a size of nothing": (
        {"postgresql": {"persistence": {"size": "0Gi"}}},
        'postgresql.persistence.size is "0Gi", which is no size of a volume',
    ),
    "a storage class": (
        {"postgresql": {"persistence": {"storageClass": "Fast Disk"}}},
        'postgresql.persistence.storageClass is "Fast Disk", which is no storage class',
    ),
    "a database's name": (
        {"postgresql": {"database": "yellow-book"}},
        'postgresql.database is "yellow-book", which is no name of a database that needs no quotes',
    ),
    "a volume's name": (
        {"extraVolumes": [{"name": "My Certs"}]},
        'extraVolumes.0.name is "My Certs", which is no name of a volume or a container',
    ),
    "a path inside a volume": (
        {"extraVolumes": [{"name": "a"}], "extraVolumeMounts": [{"name": "a", "mountPath": "/a", "subPath": "/b"}]},
        'extraVolumeMounts.0.subPath is "/b", which is no path inside a volume',
    ),
}
HOW: dict[str, str] = {
    rule["what"]: rule["how"] for rule in yaml.safe_load((CHART / "files" / "written.yaml").read_text())
}
"""What a value is → how to write it."""

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
    "two keys of OpenAI": (
        {**DATABASE, "openai": {"apiKey": "k", "existingSecret": "s"}},
        "openai.apiKey and openai.existingSecret are both set: keep one of them",
    ),
    "one port for two servers": (
        {**DATABASE, "settings": {"localPort": 8080}},
        "settings.localPort is 8080, the port of the probes and the metrics: choose another one",
    ),
    "two monitors": (
        {**DATABASE, "serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
        "serviceMonitor.enabled and podMonitor.enabled are both set, and Prometheus would read all metrics twice: keep one of",
    ),
    "the account that every pod uses": (
        {**DATABASE, "serviceAccount": {"create": False}},
        "serviceAccount.create=false without serviceAccount.name would give the operator's rights to every pod that uses the "
        "service account `default`: set serviceAccount.name to an account that only the operator uses (or rbac.create=false)",
    ),
    "the account of every namespace": (
        {**DATABASE, "serviceAccount": {"create": False, "name": "default"}},
        "serviceAccount.name=default would give the operator's rights to every pod that names no service account: set "
        "serviceAccount.name to an account that only the operator uses (or rbac.create=false)",
    ),
    "two authorities": (
        {**DATABASE, "privateCA": {"configMap": "c", "secret": "s"}},
        "privateCA.configMap and privateCA.secret are both set: keep one of them",
    ),
}


UNIT = "write it as 500m or 2 (cpu), or as 512Mi or 2Gi (memory)"
PODS: dict[str, tuple[Json, str]] = {
    "megabytes": (
        {"resources": {"limits": {"memory": "768MB"}}},
        f"resources.limits.memory is 768MB, which is no quantity: {UNIT}",
    ),
    "a quantity with a space": (
        {"postgresql": {"resources": {"requests": {"cpu": "1 core"}}}},
        f"postgresql.resources.requests.cpu is 1 core, which is no quantity: {UNIT}",
    ),
    "memory without a unit": (
        {"resources": {"limits": {"memory": 768}}},
        "resources.limits.memory is 768, which is less than a megabyte: write it with a unit, as 512Mi or 2Gi",
    ),
    "thousandths of a byte": (
        {"resources": {"requests": {"memory": "512m"}}},
        "resources.requests.memory is 512m, which is less than a megabyte: write it with a unit, as 512Mi or 2Gi",
    ),
    "a million cores": (
        {"resources": {"requests": {"cpu": "1M"}}},
        "resources.requests.cpu is 1M, which is more than any node has: write it as 500m (half a core) or 2",
    ),
    "root": (
        {"podSecurityContext": {"runAsUser": 0}},
        "podSecurityContext.runAsUser is 0, which is root, but runAsNonRoot is true, so the pod would not start: choose",
    ),
    "a container's root": (
        {"securityContext": {"runAsUser": 0}},
        "securityContext.runAsUser is 0, which is root, but runAsNonRoot is true, so the pod would not start: choose",
    ),
    "PostgreSQL's root": (
        {"postgresql": {"podSecurityContext": {"runAsUser": 0}}},
        "postgresql.podSecurityContext.runAsUser is 0, which is root, but runAsNonRoot is true",
    ),
}


@pytest.mark.parametrize(("values", "words"), WRONG.values(), ids=WRONG)
def test_the_schema_names_what_is_wrong(each_helm: Helm, values: Json, words: str) -> None:
    refusal = each_helm.refusal({**DATABASE, **values})
    assert words in refusal
    assert refusal.count("- at ") == 1, refusal


@pytest.mark.parametrize(("values", "words"), WRITTEN.values(), ids=WRITTEN)
def test_a_sentence_says_how_a_value_is_written(each_helm: Helm, values: Json, words: str) -> None:
    how = HOW[words.partition(", which is no ")[2]]
    assert f"{words}: {how}" in each_helm.refusal({**DATABASE, **values})


def test_each_rule_about_how_values_are_written_is_tested_here() -> None:
    assert {words.partition(", which is no ")[2] for _, words in WRITTEN.values()} == set(HOW)


def test_the_schema_has_no_pattern_because_it_could_not_say_what_to_write() -> None:
    assert '"pattern"' not in (CHART / "values.schema.json").read_text()


@pytest.mark.parametrize(("values", "words"), MISSING.values(), ids=MISSING)
def test_a_sentence_names_values_that_are_missing_or_conflict(each_helm: Helm, values: Json, words: str) -> None:
    refusal = each_helm.refusal(values)
    assert words in refusal
    assert "secret@" not in refusal


@pytest.mark.parametrize(("values", "words"), PODS.values(), ids=PODS)
def test_a_sentence_names_what_would_keep_a_pod_from_running(each_helm: Helm, values: Json, words: str) -> None:
    assert words in each_helm.refusal({**DATABASE, **values})


@pytest.mark.parametrize("memory", ["1.5Gi", "1e9", 805306368, "2000000k"])
def test_the_usual_quantities_are_accepted(helm: Helm, memory: str | int) -> None:
    resources = {"requests": {"cpu": 0.1, "memory": memory}, "limits": {"cpu": "1500m", "memory": memory}}
    assert helm.render({"resources": resources}).container()["resources"]["limits"]["cpu"] == "1500m"


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
