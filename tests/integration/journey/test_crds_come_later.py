"""CRDs that are installed after the operator has started, or deleted and created again: it goes on by itself.

Uses an API server of its own, because the other tests need the CRDs all the time.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster_choice.choice import Cluster
from hack.control_plane.pins import Binaries
from hack.control_plane.processes import ControlPlane
from hack.database.postgres import Database, DatabaseServer
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import apply_crds
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System, system_in
from tests.support.deadline import wait_until

JOBS, SOURCES = "embeddingjobs.embeddings.yellowbook.dev", "embeddingsources.embeddings.yellowbook.dev"
NOT_THERE = {"both": (JOBS, SOURCES), "that of jobs": (JOBS,), "that of sources": (SOURCES,)}
GOES_ON_WITHIN_S = 90


@pytest.fixture(scope="module")
def own_cluster(programs: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ControlPlane(tmp_path_factory.mktemp("crds") / "plane", programs=programs) as plane:
        yield Cluster(plane.kubeconfig, plane.kubectl, "one without CRDs")


@pytest.fixture
def system(
    own_cluster: Cluster, database_server: DatabaseServer, database: Database, tmp_path: Path
) -> Iterator[System]:
    apply_crds(own_cluster)
    with system_in(own_cluster, database_server, database, tmp_path) as made:
        yield made


def delete_crds(cluster: Cluster, *names: str) -> None:
    Kubectl(cluster).run("delete", "crds", "--timeout=60s", *names, within_s=90)


@pytest.mark.timeout(500)
@pytest.mark.parametrize("missing", NOT_THERE.values(), ids=NOT_THERE)
def test_crds_that_are_installed_after_the_start_are_noticed(
    system: System, own_cluster: Cluster, gemini: FakeGemini, missing: tuple[str, ...]
) -> None:
    delete_crds(own_cluster, *missing)
    operator = system.start_gemini_operator(gemini, until="waiting for the API server")
    apply_crds(own_cluster)
    system.book.add(3)
    system.use_gemini()
    system.wait_until_fresh(within_s=GOES_ON_WITHIN_S)
    assert operator.is_running()


@pytest.mark.timeout(500)
@pytest.mark.parametrize("deleted", NOT_THERE.values(), ids=NOT_THERE)
def test_crds_that_are_deleted_and_created_again_are_noticed_by_a_running_operator(
    system: System, own_cluster: Cluster, gemini: FakeGemini, deleted: tuple[str, ...]
) -> None:
    system.book.add(3)
    operator = system.start_with_gemini(gemini)
    system.wait_until_fresh()
    delete_crds(own_cluster, *deleted)
    system.book.add(3, prefix="Without CRDs")
    if JOBS in deleted:
        wait_until(
            lambda: "install the CRDs" in operator.log.read_text(),
            within_s=GOES_ON_WITHIN_S,
            every_s=0.1,
            because="a CRD is missing",
        )
    apply_crds(own_cluster)
    system.use_gemini()
    system.wait_until_fresh(within_s=GOES_ON_WITHIN_S)
    assert operator.is_running()
