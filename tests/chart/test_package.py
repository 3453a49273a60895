"""The chart as a package, and as a subchart."""

import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from hack.control_plane.pins import pins
from hack.repository import CHART
from tests.support.chart import DATABASE, NAMESPACE, RELEASE, Helm, Json, Objects


def test_a_package_contains_what_the_chart_needs_and_no_hidden_files(each_helm: Helm, tmp_path: Path) -> None:
    each_helm.run("package", str(CHART), "--destination", str(tmp_path))
    with tarfile.open(tmp_path / "embedding-operator-0.1.0.tgz") as archive:
        names = {name.removeprefix("embedding-operator/") for name in archive.getnames()}
    needed = {"Chart.yaml", "values.yaml", "values.schema.json", "README.md", "files/rules.yaml", "templates/NOTES.txt"}
    assert needed | {"files/crds/embeddingjobs.yaml", "files/crds/embeddingsources.yaml"} <= names
    assert not any(part.startswith(".") for name in names for part in Path(name).parts)


def test_a_package_renders_like_the_folder(each_helm: Helm, tmp_path: Path) -> None:
    each_helm.run("package", str(CHART), "--destination", str(tmp_path))
    packaged = str(tmp_path / "embedding-operator-0.1.0.tgz")
    arguments = ("template", RELEASE, packaged, "--namespace", NAMESPACE, "--kube-version", pins().kubernetes)
    assert each_helm.run(*arguments, values=DATABASE) == each_helm.template(DATABASE)


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A chart with this one as a subchart, which a condition enables."""
    folder = tmp_path / "parent"
    shutil.copytree(CHART, folder / "charts" / CHART.name)
    dependency = {"name": CHART.name, "version": "0.1.0", "condition": "embedding-operator.enabled"}
    described = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(described))
    (folder / "values.yaml").write_text(yaml.safe_dump({"global": {"registry": "any"}}))
    return folder


@pytest.mark.parametrize(("enabled", "kinds"), [(True, ["Deployment"]), (False, [])])
def test_it_can_be_a_subchart(each_helm: Helm, parent: Path, enabled: bool, kinds: list[str]) -> None:
    values: Json = {"embedding-operator": {**DATABASE, "enabled": enabled}}
    arguments = ("template", "whole", str(parent), "--kube-version", pins().kubernetes)
    rendered = Objects(it for it in yaml.safe_load_all(each_helm.run(*arguments, values=values)) if it)
    assert [it["kind"] for it in rendered.of("Deployment")] == kinds
