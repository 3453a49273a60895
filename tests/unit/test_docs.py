"""What README and docs say is there: paths, settings, resources, and the example."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.settings import PREFIX, SECRETS, Settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
SUFFIXES = (".py", ".yaml", ".md", ".csv")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(
    r"kubectl (?:-n \S+ )?(?:get|describe|wait|patch|annotate|delete|edit) (?:-[nf] \S+ |-\S+ )*([a-z][a-z,]*)"
)
FIELD = re.compile(r"--field-selector[ =]'?([\w.]+)")
OF_KUBERNETES = {"pods", "pod", "deployment", "deployments", "secret", "events", "crd", "lease", "leases"}

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def crds() -> list[Any]:
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]


def paths_of_the_repository(text: str) -> set[str]:
    """What stands in backticks and is a path of ours, not `status.phase`, `esrc/businesses` or a URL."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    words = {code.split()[0] for code in re.findall(r"`([^`\n]+)`", prose) if code.strip()}
    paths = {word for word in words if "/" in word and PATH.fullmatch(word)}
    return {path for path in paths if path.endswith(SUFFIXES) or path.split("/")[0] in FOLDERS}


def test_a_path_is_told_from_what_only_looks_like_one() -> None:
    text = "`hack/cluster up`, `crds/*.yaml`, `rows/store.py`, `docs/`; `a/b`, `status.phase`, `/healthz`, `https://x.io/a.md`"
    assert paths_of_the_repository(text) == {"hack/cluster", "crds/*.yaml", "rows/store.py", "docs/"}


@documents
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    missing = {path for path in paths_of_the_repository(text) if not any(ROOT.glob(path))}
    missing |= {link for link in LINK.findall(text) if not (document.parent / link).exists()}
    assert missing == set()


def test_the_readmes_source_is_the_example() -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)]
    sources = [block for block in blocks if block["kind"] == "EmbeddingSource"]
    example = yaml.safe_load((ROOT / "docs" / "examples" / "businesses.yaml").read_text())
    assert sources[0]["spec"] == example["spec"]


def test_the_readme_names_every_setting() -> None:
    named = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", README.read_text()))
    assert {field.alias for field in Settings.model_fields.values()} - named == set()


@documents
def test_every_variable_of_ours_that_a_document_names_is_a_setting(document: Path) -> None:
    settings = {str(field.alias) for field in Settings.model_fields.values()}
    files = {f"{name}_FILE" for name in SECRETS}
    named = set(re.findall(rf"\b(?:{PREFIX}[A-Z0-9_]*[A-Z0-9]|[A-Z_]+_FILE)\b", document.read_text()))
    assert named - settings - files == set()


@documents
def test_kubectl_is_asked_for_kinds_that_there_are(document: Path) -> None:
    names = [crd["spec"]["names"] for crd in crds()]
    known = {name for of in names for name in (of["plural"], of["singular"], *of["shortNames"], *of["categories"])}
    asked = {kind for kinds in COMMAND.findall(document.read_text()) for kind in kinds.split(",")}
    assert asked - known - OF_KUBERNETES == set()


@documents
def test_fields_that_kubectl_selects_by_can_be_selected_by(document: Path) -> None:
    versions = [version for crd in crds() for version in crd["spec"]["versions"]]
    selectable = {field["jsonPath"] for version in versions for field in version.get("selectableFields", ())}
    assert {f".{field}" for field in FIELD.findall(document.read_text())} <= selectable
