"""Helm 3 and 4, and a control plane only for the chart, because Helm does not change the CRDs that other tests apply."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster_choice.choice import Cluster
from hack.control_plane.pins import Binaries
from hack.control_plane.processes import ControlPlane
from hack.go_build.programs import go_program
from tests.support.chart import Helm
from tests.support.programs import build_beforehand

HELMS = ("helm3", "helm4")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    build_beforehand(session, {"helm": ["helm4"], "each_helm": HELMS, "promtool": ["promtool"]})


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm 4. Tests use each_helm where the two versions could differ."""
    return Helm(go_program("helm4"), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session", params=HELMS)
def each_helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(go_program(request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program of Prometheus that checks and tests rules."""
    return go_program("promtool")


@pytest.fixture(scope="session")
def chart_cluster(programs: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Without CRDs at first."""
    with ControlPlane(tmp_path_factory.mktemp("chart") / "control-plane", programs=programs) as plane:
        yield Cluster(plane.kubeconfig, plane.kubectl, "a control plane for the tests of the chart")
