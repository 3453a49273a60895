"""README and docs name only paths, settings, values, targets and resources that exist, show the examples, and link the terms."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.serve.settings import ServeSettings
from embedding_operator.settings import PREFIX, variables
from hack.control_plane import commands
from hack.node import machine, network
from hack.repository import ROOT

README = ROOT / "README.md"
CHART = ROOT / "charts" / "embedding-operator"
DOCUMENTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    CHART / "README.md",
    ROOT / "hack" / "README.md",
    ROOT / "hack" / "programs" / "README.md",
]
PAGES = {page: (ROOT / "docs" / page).read_text() for page in ("install.md", "security.md", "upgrade.md")}
EXAMPLES = [
    ROOT / "docs" / "examples" / "businesses-suspended.yaml",
    *sorted((ROOT / "docs" / "examples" / "helm").iterdir()),
]
IGNORED_BY_GIT = {"build", "dist"}
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - IGNORED_BY_GIT
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
SUFFIXES = (".py", ".yaml", ".md", ".csv")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(
    r"kubectl (?:-n \S+ )?(?:get|describe|wait|patch|annotate|delete|edit) (?:-[nf] \S+ |-\S+ )*([a-z][a-z,]*)"
)
FIELD = re.compile(r"--field-selector[ =]'?([\w.]+)")
OF_KUBERNETES = {"jobs", "pods", "pod", "deployment", "deployments", "secret", "events", "crd", "lease", "leases"}
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ANCHOR = re.compile(r"\]\(([^)#:\s]*)#([^)]*)\)")
SET = re.compile(r"(?:--set(?:-\w+)?[ =]|(?<=,))([a-z][A-Za-z.]+)=")

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def crds() -> list[Any]:
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]


def paths_of_the_repository(text: str) -> set[str]:
    """Paths of the repository in backticks; not `status.phase`, `esrc/businesses` or a URL."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    words = {code.split()[0] for code in re.findall(r"`([^`\n]+)`", prose) if code.strip()}
    paths = {word for word in words if "/" in word and PATH.fullmatch(word)}
    return {path for path in paths if path.endswith(SUFFIXES) or path.split("/")[0] in FOLDERS}


def test_a_path_is_distinguished_from_similar_words() -> None:
    text = "`hack/cluster up`, `crds/*.yaml`, `rows/store.py`, `docs/`; `a/b`, `status.phase`, `/healthz`, `https://x.io/a.md`"
    assert paths_of_the_repository(text) == {"hack/cluster", "crds/*.yaml", "rows/store.py", "docs/"}


@documents
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", document.read_text())
    missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []
    assert named or document.name != "reliability.md"


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


def every_variable() -> set[str]:
    """Those of `serve` too."""
    return variables() | variables(kind=ServeSettings)


def test_the_readme_names_every_setting() -> None:
    named = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", README.read_text()))
    assert every_variable() - named == set()


@documents
def test_every_variable_with_the_prefix_that_a_document_names_is_a_setting(document: Path) -> None:
    named = set(re.findall(rf"\b(?:{PREFIX}[A-Z0-9_]*[A-Z0-9]|[A-Z_]+_FILE)\b", document.read_text()))
    assert named - every_variable() - {"SSL_CERT_FILE"} == set()  # which OpenSSL reads


@documents
def test_every_kind_in_a_kubectl_command_exists(document: Path) -> None:
    names = [crd["spec"]["names"] for crd in crds()]
    known = {name for of in names for name in (of["plural"], of["singular"], *of["shortNames"], *of["categories"])}
    named = {kind for kinds in COMMAND.findall(document.read_text()) for kind in kinds.split(",")}
    assert named - known - OF_KUBERNETES == set()


@documents
def test_every_field_selector_uses_a_selectable_field(document: Path) -> None:
    versions = [version for crd in crds() for version in crd["spec"]["versions"]]
    selectable = {field["jsonPath"] for version in versions for field in version.get("selectableFields", ())}
    assert {f".{field}" for field in FIELD.findall(document.read_text())} <= selectable


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub forms them."""
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in HEADING.findall(text)}


@documents
def test_the_anchor_of_every_link_exists(document: Path) -> None:
    links = [
        (document.parent / path if path else document, place) for path, place in ANCHOR.findall(document.read_text())
    ]
    assert [(str(path), place) for path, place in links if place not in anchors(path.read_text())] == []


@documents
def test_every_target_of_make_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^    make ([a-z0-9-]+)|`make ([a-z0-9-]+)", document.read_text(), re.MULTILINE)
    assert {target for pair in named for target in pair if target} - targets == set()


def keys(values: Any, prefix: str = "") -> set[str]:
    """All keys of values joined with dots, including those of mappings."""
    if not isinstance(values, dict):
        return set()
    here = {f"{prefix}{key}" for key in values}
    return here.union(*(keys(value, f"{prefix}{key}.") for key, value in values.items()))


def named_values(text: str, top: set[str]) -> set[str]:
    """Values that Helm's flags set, and words in backticks that begin with a top-level value of the chart."""
    quoted = {
        word for word in re.findall(r"`([a-z][A-Za-z]*(?:\.[A-Za-z]+)+)(?:=[^`]*)?`", text) if word.split(".")[0] in top
    }
    return quoted | set(SET.findall(re.sub(r"--field-selector[ =]\S+", "", text)))


def test_a_value_is_distinguished_from_similar_words() -> None:
    text = "`crds.keep`, `image.tag=x`, --set database.url=a,replicas=0; `spec.text`, `rbac.yaml`, `pyproject.toml`"
    assert named_values(text, {"crds", "image", "rbac"}) == {
        "crds.keep",
        "image.tag",
        "database.url",
        "replicas",
        "rbac.yaml",
    }


@documents
def test_every_value_of_the_chart_that_a_document_names_exists(document: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    files = {path.name for path in [*(CHART / "templates").iterdir(), *(CHART / "files").iterdir()]}
    assert named_values(document.read_text(), set(values)) - keys(values) - files == set()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_pages_show_the_examples_unchanged(example: Path) -> None:
    assert f"```yaml\n{example.read_text()}```" in PAGES["install.md"]
    assert f"]({example.relative_to(ROOT / 'docs')})" in PAGES["install.md"]


def test_readme_and_install_page_prepare_the_database_in_the_same_way() -> None:
    """But for the dimensions, because each page has another model."""
    blocks = [
        re.findall(r"```sql\n(CREATE EXTENSION .*?)```", text, re.DOTALL)
        for text in (README.read_text(), PAGES["install.md"])
    ]
    assert [len(found) for found in blocks] == [1, 1]
    assert blocks[0][0].replace("vector(512)", "vector(768)") == blocks[1][0]


def test_the_pages_install_and_verify_this_version() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    versioned = re.compile(r"(?:embedding-operator[:-]|--version |\.yaml@refs/tags/v)(\d+\.\d+\.\d+)")
    for page in ("install.md", "security.md"):
        assert set(versioned.findall(PAGES[page])) == {version}


def test_every_image_that_the_chart_can_pull_is_named() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    images = [values["image"], values["postgresql"]["image"]]
    assert {f"{image['repository']}:{image['tag'] or version}" for image in images} <= set(
        re.findall(r"`([^`\s]+)`", PAGES["install.md"])
    )


def test_a_signature_is_verified_by_the_identity_of_the_workflow() -> None:
    """The comment in the workflow and the example for Flux use the same identity."""
    (workflow,) = (ROOT / ".github" / "workflows").glob("release.yaml")
    identity = f"https://github.com/yellowbook-dev/embedding-operator/{workflow.relative_to(ROOT)}@refs/tags/v"
    identities = re.findall(r"--certificate-identity (\S+?)[\d.]+$", PAGES["security.md"], re.MULTILINE)
    assert set(identities) == {identity}
    verified = re.findall(r"cosign verify (\S+):", PAGES["security.md"])
    assert verified == [
        f"ghcr.io/yellowbook-dev/{name}" for name in ("embedding-operator", "charts/embedding-operator")
    ]


def test_the_security_page_names_every_right_of_the_operator() -> None:
    rules = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    section = PAGES["security.md"].split("## What people may do")[0]
    rows = re.findall(r"^\| `([\w/]+)`[^|]*\| ([\w, ]+) \|", section, re.MULTILINE)
    assert {(resource, verb) for resource, verbs in rows for verb in verbs.split(", ")} == granted


def test_the_security_page_and_the_charts_readme_agree_on_peoples_roles() -> None:
    def roles(text: str) -> dict[str, set[str]]:
        rows = re.findall(r"^\| `(?:<name>:<namespace>:)?((?:job|source)-\w+)` \|[^|]*\| (.*) \|$", text, re.MULTILINE)
        return {role: set(re.findall(r"`(\w+)`", aggregated)) for role, aggregated in rows}

    assert roles(PAGES["security.md"]) == roles((CHART / "README.md").read_text()) != {}


def test_the_changelog_begins_with_unreleased_and_keeps_its_format() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert [
        version for version in versions[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version)
    ] == []
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds


def test_contributing_names_what_a_node_installs_and_creates() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"[\w./-]+", text))
    created = {network.BRIDGE, network.POD_RANGE, commands.SERVICE_RANGE}
    assert (set(machine.PACKAGES.values()) | created) - {word.rstrip(".") for word in named} == set()
