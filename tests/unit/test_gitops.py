"""docs/gitops.md and its examples: the health check in Lua against every state of a source, and the page's facts on the chart."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime  # Argo CD runs Lua 5.1

from embedding_operator.resources import GROUP
from hack.repository import ROOT
from tests.support.manifests import CRDS, Json
from tests.support.source_states import GENERATION, STATES, State, every_state

PAGE = (ROOT / "docs" / "gitops.md").read_text()
EXAMPLES = ROOT / "docs" / "examples"
SHOWN = [path for tool in ("argocd", "flux", "kustomize") for path in sorted((EXAMPLES / tool).iterdir())]
SETTINGS = yaml.safe_load((EXAMPLES / "argocd" / "argocd-cm.yaml").read_text())["data"]
CHECK = SETTINGS[f"resource.customizations.health.{GROUP}_EmbeddingSource"]
MISSING_LIBRARIES = ("string", "math", "io", "debug", "coroutine", "dofile", "loadfile")
CHART = ROOT / "charts" / "embedding-operator"
NOT_REPEATABLE = re.compile(
    r"\b(lookup|rand(?:Alpha|AlphaNum|Numeric|Ascii|Bytes|Int)|uuidv4|now|gen\w+|derivePassword)\b"
)


def health(source: Json) -> dict[str, str]:
    """What Argo CD shows for this source: the check runs as in Argo CD, with the source as `obj` and without some libraries."""
    lua: Any = LuaRuntime(unpack_returned_tuples=True)
    for name in MISSING_LIBRARIES:
        lua.globals()[name] = None
    lua.globals()["obj"] = lua.table_from(source, recursive=True)
    return dict(lua.execute(CHECK))


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_argo_cd_shows_the_intended_health_of_each_state(state: State) -> None:
    assert health(state.source())["status"] == state.health


def test_every_combination_of_facts_has_the_intended_health() -> None:
    shown = [(state, health(state.source())["status"]) for state in every_state()]
    assert [(state.name, answer) for state, answer in shown if answer != state.health] == []
    assert {answer for _, answer in shown} == {"Progressing", "Degraded", "Suspended", "Healthy"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("not processed yet", "the operator has not processed this version of the source yet"),
        ("waiting for the database from the start", "the database: connection refused"),
        ("refused", "public.businesses"),
        ("the provider failing", "the quota of the day is used up"),
        ("a re-embedding waits for approval", "90 rows"),
        ("fresh except for dead letters", "dead letter"),
        ("suspended", "spec.suspend"),
    ],
)
def test_argo_cd_shows_the_reason(name: str, reason: str) -> None:
    (state,) = [state for state in STATES if state.name == name]
    assert reason in health(state.source())["message"]


def test_a_source_without_a_status_is_progressing() -> None:
    """An older CRD has no default for the status."""
    assert health({"metadata": {"generation": GENERATION}, "spec": {}})["status"] == "Progressing"


def test_jobs_and_only_jobs_are_excluded() -> None:
    (exclusion,) = yaml.safe_load(SETTINGS["resource.exclusions"])
    jobs = yaml.safe_load((CRDS / "embeddingjobs.yaml").read_text())["spec"]
    assert (exclusion["apiGroups"], exclusion["kinds"]) == ([jobs["group"]], [jobs["names"]["kind"]])


@pytest.mark.parametrize("example", SHOWN, ids=lambda path: path.name)
def test_the_page_shows_the_examples_unchanged(example: Path) -> None:
    assert f"```yaml\n{example.read_text()}```" in PAGE
    assert f"]({example.relative_to(ROOT / 'docs')})" in PAGE


@pytest.mark.parametrize("example", SHOWN, ids=lambda path: path.name)
def test_the_examples_install_this_chart(example: Path) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    for document in yaml.safe_load_all(example.read_text()):
        if document["kind"] == "Application":
            (source,) = [source for source in document["spec"]["sources"] if "chart" in source]
            assert (source["chart"], source["targetRevision"]) == (chart["name"], chart["version"])
        if document["kind"] == "Kustomization" and "helmCharts" in document:
            (source,) = document["helmCharts"]
            assert (source["name"], source["version"], source["skipTests"]) == (chart["name"], chart["version"], True)
        if document["kind"] == "OCIRepository":
            assert document["spec"]["url"].endswith(f"/{chart['name']}")
            assert chart["version"].startswith(document["spec"]["ref"]["semver"].removesuffix("x"))


def test_flux_verifies_the_signature_of_the_release_workflow() -> None:
    (repository,) = [
        document
        for document in yaml.safe_load_all((EXAMPLES / "flux" / "operator.yaml").read_text())
        if document["kind"] == "OCIRepository"
    ]
    (identity,) = repository["spec"]["verify"]["matchOIDCIdentity"]
    (workflow,) = (ROOT / ".github" / "workflows").glob("release.yaml")
    signed_by = f"https://github.com/yellowbook-dev/embedding-operator/{workflow.relative_to(ROOT)}@refs/tags/v0.1.0"
    assert re.search(identity["subject"], signed_by)
    assert not re.search(identity["subject"], signed_by.replace("yellowbook-dev", "another-owner"))
    assert re.search(identity["issuer"], "https://token.actions.githubusercontent.com")


def test_the_chart_renders_the_same_without_a_cluster_and_each_time() -> None:
    found = {
        (path.name, action)
        for path in (CHART / "templates").rglob("*.*")
        for action in re.findall(r"{{.*?}}", path.read_text(), re.DOTALL)
        if NOT_REPEATABLE.search(re.sub(r"/\*.*?\*/|\"[^\"]*\"", "", action, flags=re.DOTALL))
    }
    assert {name for name, _ in found} == {"installed.yaml"}  # it refuses values, and renders nothing
