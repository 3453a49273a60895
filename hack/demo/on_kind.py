"""`make kind-demo` shows the demo on a kind cluster, with the operator's image, installed by its chart.

It stays until `make kind-demo-down`, to look around.
"""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hack.cluster_choice.kind import KindCluster
from hack.cluster_choice.pods import PodCluster, on_kind
from hack.demo.data import Business, businesses
from hack.demo.narrator import Narrator
from hack.demo.provider import local
from hack.demo.stage import Ground, load_businesses
from hack.demo.story import Story
from hack.errors import KindUnavailable, ToolError
from hack.go_build.programs import go_program
from hack.installation.helm import Helm
from hack.installation.kubectl import Kubectl, forward_port
from hack.repository import CHART, ROOT

NAME = "embedding-operator-demo"
FOLDER = ROOT / ".run" / "kind-demo"
RELEASE = "yellow-book"
DATABASE, PASSWORD = "yellow_book", "only-for-the-demo"
INSTALLED_WITHIN_S = 600  # the database's image is pulled

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def demo(down: Annotated[bool, typer.Option(help="Delete the demo's cluster, and nothing else.")] = False) -> None:
    """Businesses in PostgreSQL, a source declared once, and every row kept fresh: shown on kind."""
    try:
        kind = KindCluster.found_in(FOLDER)
        if down:
            if kind is not None:
                kind.delete()
            say("the demo's cluster is deleted" if kind is not None else "there is no demo on kind to delete")
        elif kind is not None:
            _show_around(kind)
        else:
            kind = KindCluster.create(NAME, FOLDER, say=say)
            play(on_kind(kind), FOLDER, businesses())
            _show_around(kind)
    except KindUnavailable as exc:
        console.print(f"make kind-demo: {exc}. `make demo` needs no container engine", style="red", markup=False)
        sys.exit(exc.exit_code)
    except ToolError as exc:
        console.print(f"make kind-demo: {exc}", style="red", markup=False)
        sys.exit(exc.exit_code)


def play(pods: PodCluster, folder: Path, cast: list[Business], *flags: str, release: str = RELEASE) -> None:
    """Install the chart with its development database, load the businesses, and show the story.

    The namespace has the release's name. `flags` are Helm's.
    """
    cluster = pods.cluster
    say(f"cluster: {cluster.origin}")
    began = time.monotonic()
    pods.load_operator_image()
    say(f"the operator's image is built and on the nodes, {time.monotonic() - began:.0f} s")
    values = ["postgresql.enabled=true", f"postgresql.password={PASSWORD}", f"postgresql.database={DATABASE}"]
    values.append("serve.enabled=true")
    flags = (*(f"--set={value}" for value in values), *pods.operator_flags, *pods.load_postgresql_image(), *flags)
    helm = Helm(go_program("helm4"), folder / "helm", cluster.admin_kubeconfig)
    say(f"helm upgrade --install {release} {CHART.relative_to(ROOT)} --namespace {release} {' '.join(flags)}")
    helm.upgrade(release, *flags, namespace=release, timeout_s=INSTALLED_WITHIN_S)
    kubectl = Kubectl(cluster, release)
    with (
        forward_port(kubectl, f"{release}-embedding-operator-postgresql", 5432, folder) as port,
        forward_port(kubectl, f"{release}-embedding-operator-serve", 8080, folder) as search_port,
    ):
        url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/{DATABASE}"
        ground = Ground(kubectl, url, f"http://127.0.0.1:{search_port}")
        load_businesses(ground.database_url, cast)
        say(f"{len(cast)} businesses are in public.businesses, none of them with an embedding")
        story = Story(Narrator(ground, console), local())
        story.show()
        story.searches()


def say(line: str) -> None:
    console.print(f"• {line}", markup=False)


def _show_around(kind: KindCluster) -> None:
    console.rule("[bold]All of it is still up", align="left")
    for line in (
        f"export KUBECONFIG={kind.kubeconfig}",
        f"alias kubectl='{kind.kubectl} --namespace {RELEASE}'",
        "kubectl get embeddingsources,embeddingjobs",
        "kubectl describe embeddingsource businesses",
        f"kubectl logs deployment/{RELEASE}-embedding-operator",
        f"kubectl exec -it statefulset/{RELEASE}-embedding-operator-postgresql -- psql -U postgres {DATABASE}",
        "make kind-demo-down           # deletes it",
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    app()
