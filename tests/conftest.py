"""Fixtures of all tests: a cluster and a database server for each process that runs tests, and a database for each test."""

from collections.abc import Iterator

import pytest

from hack.cluster_choice.choice import Cluster, cluster_for_tests
from hack.control_plane.build import binaries
from hack.control_plane.pins import Binaries
from hack.database import postgres
from hack.database.postgres import Database, DatabaseServer
from hack.processes import environment
from tests.support.programs import build_in_sight, fixtures_of
from tests.support.side_by_side import Schedule, sort_longest_first


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Schedule:
    config.option.loadscopereorder = False  # the tests keep the order of the collection
    return Schedule(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        sort_longest_first(items)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the control plane before the first test, because a build takes longer than pytest's `timeout`."""
    if environment.cluster_kubeconfig() is not None:
        return
    needed_by = {"programs"} if environment.kubebuilder_assets() is not None else {"cluster", "programs"}
    if needed_by & fixtures_of(session):
        build_in_sight(session, binaries)


@pytest.fixture(scope="session")
def programs() -> Binaries:
    """The control plane's programs, for tests of the control plane itself."""
    if environment.cluster_kubeconfig() is not None:
        pytest.skip("no control plane is built, because CLUSTER_KUBECONFIG is set")
    return binaries()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster. Each test creates a namespace of its own in it."""
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
