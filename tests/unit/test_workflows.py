"""The workflows of GitHub Actions, as far as they can be checked without GitHub."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.processes.environment import program_environment
from hack.release.versions import declared_versions, disagreement
from hack.repository import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*"))
FILES = [*WORKFLOWS, *sorted((GITHUB / "actions").glob("*/*"))]
RELEASED = re.compile(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

every_file = pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(GITHUB)))
every_workflow = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.name)


def workflow(name: str) -> Any:
    return yaml.safe_load((GITHUB / "workflows" / name).read_text())


def steps(document: Any) -> Iterator[Any]:
    for job in document["jobs"].values():
        yield from job.get("steps", ())


def test_actionlint_finds_nothing(actionlint_program: Path) -> None:
    """Without the linters for shell and Python, which it would call if the machine has them."""
    done = subprocess.run(
        [actionlint_program, "-shellcheck=", "-pyflakes=", *WORKFLOWS],
        cwd=ROOT,
        env=program_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")


@every_file
def test_every_action_is_pinned_by_the_commit_of_a_release(file: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: (.*)$", file.read_text(), re.MULTILINE)
    assert used
    assert [action for action in used if not (action.startswith("./") or RELEASED.fullmatch(action))] == []


@every_workflow
def test_every_target_of_make_in_a_workflow_exists(file: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z0-9-]+)", file.read_text())) <= targets


@every_workflow
def test_a_workflow_has_only_the_right_to_read_unless_a_job_sets_more(file: Path) -> None:
    assert workflow(file.name)["permissions"] == {"contents": "read"}


@every_workflow
def test_a_pipe_fails_if_any_of_its_commands_fails(file: Path) -> None:
    """GitHub sets pipefail only for a shell that the workflow names."""
    assert workflow(file.name)["defaults"]["run"]["shell"] == "bash"


@every_workflow
def test_no_expression_is_part_of_a_script(file: Path) -> None:
    """GitHub replaces an expression before the shell reads it, so the name of a branch could contain a command."""
    assert [step["run"] for step in steps(workflow(file.name)) if "${{" in step.get("run", "")] == []


def test_pull_requests_are_tested_first_without_and_then_with_pods() -> None:
    ci = workflow("ci.yaml")
    run = {step["run"] for step in steps(ci) if "run" in step}
    assert {"make lint", "make test"} <= run
    assert "pull_request" in ci[True]  # YAML reads the key `on` as True
    assert ci["jobs"]["e2e"]["needs"] == ["lint", "test"]


def test_pods_run_on_the_oldest_kubernetes_that_the_chart_supports_and_on_a_newer_one() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "embedding-operator" / "Chart.yaml").read_text())
    oldest, newest = workflow("ci.yaml")["jobs"]["e2e"]["strategy"]["matrix"]["include"]
    assert chart["kubeVersion"] == f">={oldest['kubernetes']}.0-0"
    assert int(newest["kubernetes"].split(".")[1]) > int(oldest["kubernetes"].split(".")[1])
    for cluster in (oldest, newest):
        assert re.fullmatch(rf"kindest/node:v{cluster['kubernetes']}\.\d+@sha256:[0-9a-f]{{64}}", cluster["image"])


def test_the_oldest_python_that_is_supported_is_tested() -> None:
    requires = re.search(r'requires-python = ">=(.*)"', (ROOT / "pyproject.toml").read_text())
    assert requires is not None
    assert workflow("ci.yaml")["jobs"]["test"]["strategy"]["matrix"]["python"][0] == requires[1]


def test_a_release_is_tested_first_and_published_for_both_kinds_of_machine() -> None:
    release = workflow("release.yaml")
    assert release["jobs"]["ci"]["uses"] == "./.github/workflows/ci.yaml"
    assert set(release["jobs"]["image"]["needs"]) == {"version", "ci"}
    (build,) = [step["with"] for step in steps(release) if step.get("id") == "build"]
    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert (build["sbom"], build["provenance"]) == (True, "mode=max")


def test_image_and_chart_are_published_where_the_chart_and_the_page_expect_them() -> None:
    published = workflow("release.yaml")["env"]
    owner = {
        name: place.replace("${{ github.repository_owner }}", "yellowbook-dev") for name, place in published.items()
    }
    values = yaml.safe_load((ROOT / "charts" / "embedding-operator" / "values.yaml").read_text())
    assert owner["IMAGE"] == values["image"]["repository"]
    assert f"oci://{owner['CHARTS']}/embedding-operator" in (ROOT / "docs" / "gitops.md").read_text()


def test_the_dockerfile_declares_every_build_argument_of_the_release() -> None:
    (build,) = [step["with"] for step in steps(workflow("release.yaml")) if step.get("id") == "build"]
    given = {line.partition("=")[0] for line in build["build-args"].split("\n") if line}
    assert given <= set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))


def test_the_places_that_state_the_version_agree() -> None:
    versions = declared_versions()
    assert disagreement(f"v{next(iter(versions.values()))}", versions) is None


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("v1.2.4", "the tag is v1.2.4, but the chart is 1.2.3: tag that version, or commit this one first"),
        ("1.2.3", "the tag '1.2.3' is no version such as v1.2.3"),
        ("v1.2", "is no version such as"),
        ("v1.2.3; rm -r .", "is no version such as"),
    ],
)
def test_a_tag_that_does_not_match_is_refused(tag: str, message: str) -> None:
    assert message in str(disagreement(tag, {"the chart": "1.2.3"}))


@pytest.mark.parametrize("version", ["1.2.3", "1.2.3-rc.1"])
def test_a_tag_that_matches_is_released(version: str) -> None:
    assert disagreement(f"v{version}", {"the chart": version, "the package": version}) is None


def test_dependabot_updates_folders_that_contain_its_files() -> None:
    holds = {
        "github-actions": "",
        "uv": "uv.lock",
        "gomod": "go.mod",
        "npm": "package-lock.json",
        "docker": "Dockerfile",
    }
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == set(holds)
    for update in updates:
        for folder in update.get("directories") or [update["directory"]]:
            pattern = f"{folder.strip('/')}/{holds[update['package-ecosystem']]}".strip("/") or "*"
            assert list(ROOT.glob(pattern)), folder
