"""What the tests share: one cluster and one database server for the whole run, a fresh database for each test."""

from collections.abc import Iterator

import pytest

from hack.cluster_choice.choice import Cluster, cluster_for_tests
from hack.control_plane.build import binaries
from hack.control_plane.pins import Binaries
from hack.database import postgres
from hack.database.postgres import Database, DatabaseServer
from hack.processes import environment


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the control plane before the first test: it takes minutes, and a test may take as long as `timeout` says."""
    if session.config.option.collectonly or environment.cluster_kubeconfig() is not None:
        return
    needed_by = {"programs"} if environment.kubebuilder_assets() is not None else {"cluster", "programs"}
    if any(needed_by & set(getattr(item, "fixturenames", ())) for item in session.items):
        capture = session.config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            binaries()
        else:
            with capture.global_and_fixture_disabled():  # whoever waits sees how far it is
                binaries()


@pytest.fixture(scope="session")
def programs() -> Binaries:
    """For tests of the control plane itself."""
    if environment.cluster_kubeconfig() is not None:
        pytest.skip("no control plane is built, because CLUSTER_KUBECONFIG is set")
    return binaries()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster's administrator: each test makes a namespace of its own in it."""
    with cluster_for_tests(tmp_path_factory.mktemp("cluster")) as chosen:
        yield chosen


@pytest.fixture(scope="session")
def database_server() -> Iterator[DatabaseServer]:
    with postgres.database_server() as server:
        yield server


@pytest.fixture
def database(database_server: DatabaseServer) -> Iterator[Database]:
    created = database_server.create_database()
    yield created
    database_server.drop_database(created.name)
