"""A namespace for each module of this folder, and requests as its administrator and as the operator's service account."""

import itertools
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from embedding_operator.api_server import ApiServer
from embedding_operator.resources import JOBS
from hack.cluster_choice.choice import Cluster
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.go_build.programs import go_program
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import ACCOUNT, temporary_namespace
from tests.support.chart import Helm
from tests.support.deadline import eventually
from tests.support.plain_requests import PlainRequests, plain_requests, settings_for
from tests.support.programs import build_beforehand

_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    build_beforehand(
        session, {"helm": ["helm4"], "aggregated": ["kube-controller-manager"], "monitored": ["controller-gen"]}
    )


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(go_program("helm4"), tmp_path_factory.mktemp("helm"))


@dataclass(frozen=True)
class Namespace:
    name: str
    kubectl: Kubectl
    operator_kubeconfig: Path
    """The kubeconfig of the service account that the operator has in an installation."""

    @property
    def admin_kubeconfig(self) -> Path:
        return self.kubectl.cluster.admin_kubeconfig


@pytest.fixture(scope="module")
def namespace(crds: None, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    name = f"test-{secrets.token_hex(4)}"
    with temporary_namespace(cluster, name, tmp_path_factory.mktemp(name)) as kubeconfig:
        yield Namespace(name, Kubectl(cluster, name), kubeconfig)


@pytest.fixture(scope="module")
def rendered_namespace(
    crds: None, cluster: Cluster, helm: Helm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Namespace]:
    """A namespace with the service account and the rights that the chart renders."""
    name = f"test-{secrets.token_hex(4)}"
    kubectl, folder = Kubectl(cluster, name), tmp_path_factory.mktemp(name)
    with temporary_namespace(cluster, name, folder):
        kubectl.run("delete", "rolebinding,role,serviceaccount", ACCOUNT)
        rendered = helm.render(release=ACCOUNT, namespace=name)
        rights = [rendered.one(kind) for kind in ("ServiceAccount", "Role", "RoleBinding")]
        kubectl.run("create", "-f", "-", stdin=yaml.safe_dump_all(rights))
        out = folder / "rendered.kubeconfig"
        yield Namespace(
            name,
            kubectl,
            service_account_kubeconfig(cluster.admin_kubeconfig, name, ACCOUNT, out, kubectl=cluster.kubectl),
        )


@pytest.fixture
async def admin(namespace: Namespace) -> AsyncIterator[PlainRequests]:
    async with plain_requests(namespace.admin_kubeconfig, namespace.name) as requests:
        yield requests


@pytest.fixture
async def operator(namespace: Namespace) -> AsyncIterator[PlainRequests]:
    """Requests with the operator's rights."""
    async with plain_requests(namespace.operator_kubeconfig, namespace.name) as requests:

        async def rights_are_effective() -> bool:
            return (await requests.request("GET", requests.path(JOBS), limit="1")).accepted

        await eventually(rights_are_effective, within_s=60, because="the account's Role was created")
        yield requests


@pytest.fixture
async def server(namespace: Namespace) -> AsyncIterator[ApiServer]:
    """The operator's own client, as the administrator."""
    async with await ApiServer.connected(settings_for(namespace.admin_kubeconfig, namespace.name)) as connected:
        yield connected


@pytest.fixture
async def operator_server(operator: PlainRequests, namespace: Namespace) -> AsyncIterator[ApiServer]:
    """The operator's own client, as its service account."""
    async with await ApiServer.connected(settings_for(namespace.operator_kubeconfig, namespace.name)) as connected:
        yield connected


@pytest.fixture
def name() -> str:
    """A name that no other test of this namespace uses."""
    return f"n{next(_numbers)}"
