"""What the integration tests share in addition to the cluster and the database server: the CRDs, Go programs, npm packages."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster_choice.choice import Cluster
from hack.go_build.programs import go_program
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import temporary_crds, temporary_namespace
from tests.support.programs import build_beforehand, build_in_sight, fixtures_of
from tests.support.typescript import can_be_run, fetched_packages

KREW = ("krew", "validate-krew-manifest")
PROGRAMS = ("helm4", "kind", "kstatus", "prometheus")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    build_beforehand(session, {f"{name}_program": [name] for name in PROGRAMS} | {"krew_programs": KREW})
    if "typescript" in fixtures_of(session) and can_be_run():
        build_in_sight(session, fetched_packages)


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> Iterator[None]:
    with temporary_crds(cluster):
        yield


@pytest.fixture(scope="module")
def kubectl(crds: None, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """The administrator in a namespace of the module's own, with the operator's account and rights in it."""
    name = f"test-{secrets.token_hex(4)}"
    with temporary_namespace(cluster, name, tmp_path_factory.mktemp(name)):
        yield Kubectl(cluster, name)


@pytest.fixture(scope="session")
def helm4_program() -> Path:
    return go_program("helm4")


@pytest.fixture(scope="session")
def kind_program() -> Path:
    return go_program("kind")


@pytest.fixture(scope="session")
def kstatus_program() -> Path:
    return go_program("kstatus")


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    return go_program("prometheus")


@pytest.fixture(scope="session")
def krew_programs() -> tuple[Path, Path]:
    """krew, and its own check of manifests."""
    return go_program("krew"), go_program("validate-krew-manifest")
