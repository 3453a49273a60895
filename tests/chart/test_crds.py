"""The CRDs in the chart: equal to crds/, kept on uninstall, and left out if another release installs them."""

from pathlib import Path

import pytest
import yaml

from hack.repository import CHART
from tests.support.chart import Helm, Json
from tests.support.manifests import CRDS

COPIES = CHART / "files" / "crds"


def without_labels_and_annotations(crd: Json) -> Json:
    metadata = {key: value for key, value in crd["metadata"].items() if key not in ("labels", "annotations")}
    return {**crd, "metadata": metadata}


def test_the_charts_copies_are_the_crds() -> None:
    def content(folder: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in folder.glob("*.yaml")}

    assert content(COPIES) == content(CRDS), "make format"


def test_both_are_rendered_without_changes(each_helm: Helm) -> None:
    rendered = each_helm.render(crds=True).of("CustomResourceDefinition")
    written = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
    by_name = sorted(map(without_labels_and_annotations, rendered), key=lambda crd: str(crd["metadata"]["name"]))
    assert by_name == written


@pytest.mark.parametrize(("values", "annotations"), [({}, {"helm.sh/resource-policy": "keep"}), ({"keep": False}, {})])
def test_an_uninstall_keeps_them_by_default(helm: Helm, values: Json, annotations: Json) -> None:
    rendered = helm.render({"crds": values}, crds=True).of("CustomResourceDefinition")
    assert [crd["metadata"].get("annotations", {}) for crd in rendered] == [annotations] * 2


def test_a_second_release_can_leave_them_out(helm: Helm) -> None:
    assert helm.render({"crds": {"install": False}}, crds=True).of("CustomResourceDefinition") == []


def test_helm_upgrades_them() -> None:
    """Helm never upgrades files in a chart's crds/ folder."""
    assert not (CHART / "crds").exists()
