"""One table in docs/install.md states the supported versions; every other place agrees with it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.cli.verdicts import OLDEST_KUBERNETES
from embedding_worker.rows.readiness import OLDEST_PGVECTOR, OLDEST_POSTGRESQL
from hack.repository import ROOT

CHART = ROOT / "charts" / "embedding-operator"
PAGE = (ROOT / "docs" / "install.md").read_text()
STATED = dict(re.findall(r"^\| (\w+) \| ([\d.]+) and newer", PAGE, re.MULTILINE))
FOR_ONE_FLAG = {("Helm", "3.17")}  # --take-ownership
ELSEWHERE = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "install.md"),
    CHART / "README.md",
]


def pyproject() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def test_the_table_states_each_range() -> None:
    assert set(STATED) == {"Kubernetes", "PostgreSQL", "pgvector", "Helm", "Python"}


def test_the_chart_and_the_check_require_the_stated_kubernetes() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={STATED['Kubernetes']}.0-0"
    assert ".".join(map(str, OLDEST_KUBERNETES)) == STATED["Kubernetes"]


def test_pods_run_on_the_kubernetes_versions_that_the_page_states() -> None:
    clusters = [entry["kubernetes"] for entry in workflow("ci.yaml")["jobs"]["e2e"]["strategy"]["matrix"]["include"]]
    assert clusters[0] == STATED["Kubernetes"]
    assert f"The tests run on Kubernetes {clusters[0]} and {clusters[-1]} with pods" in " ".join(PAGE.split())


def test_the_check_requires_the_stated_postgresql_and_pgvector() -> None:
    assert str(OLDEST_POSTGRESQL) == STATED["PostgreSQL"]
    assert ".".join(map(str, OLDEST_PGVECTOR)) == STATED["pgvector"]


def test_the_package_its_tools_and_its_image_require_the_stated_python() -> None:
    project, oldest = pyproject(), STATED["Python"]
    assert project["project"]["requires-python"] == f">={oldest}"
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert workflow("ci.yaml")["jobs"]["test"]["strategy"]["matrix"]["python"][0] == oldest
    assert f"Python {oldest} or newer is needed" in (ROOT / "Makefile").read_text()
    image = re.search(r"^ARG BASE_IMAGE=\S*/python:(\d+)\.(\d+)-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None
    assert tuple(map(int, image.groups())) >= tuple(map(int, oldest.split(".")))


@pytest.mark.parametrize("document", ELSEWHERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_document_contradicts_the_table(document: Path) -> None:
    found = re.findall(r"(Kubernetes|PostgreSQL|pgvector|Helm|Python) ([\d.]+) (?:or|and) newer", document.read_text())
    assert {(what, oldest) for what, oldest in found if STATED[what] != oldest} <= FOR_ONE_FLAG


def test_another_document_states_a_version() -> None:
    """Otherwise the test above would compare nothing."""
    text = "".join(document.read_text() for document in ELSEWHERE)
    assert f"Kubernetes {STATED['Kubernetes']} or newer" in text
    assert f"Python {STATED['Python']} or newer" in text
