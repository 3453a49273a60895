"""What the integration tests share beside the cluster and the database: the CRDs, as long as the run lasts, and Go programs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.control_plane.choice import Cluster
from hack.go_programs import go_program
from hack.installation import crds_applied
from tests.support.programs import build_beforehand

PROGRAMS = ("helm4", "kind", "kstatus")


def pytest_collection_finish(session: pytest.Session) -> None:
    build_beforehand(session, {f"{name}_program": [name] for name in PROGRAMS})


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> Iterator[None]:
    with crds_applied(cluster):
        yield


@pytest.fixture(scope="session")
def helm4_program() -> Path:
    return go_program("helm4")


@pytest.fixture(scope="session")
def kind_program() -> Path:
    return go_program("kind")


@pytest.fixture(scope="session")
def kstatus_program() -> Path:
    return go_program("kstatus")
