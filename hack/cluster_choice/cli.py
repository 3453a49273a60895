"""`hack/cluster up | down | status | kubeconfig`: a cluster that stays between commands.

Called by developers. Tests and demo start their control planes through hack.cluster_choice.choice instead.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from hack.cluster_choice.choice import given_cluster
from hack.cluster_choice.standing import StandingCluster, find, start
from hack.errors import ToolError
from hack.processes.locked import hold_lock
from hack.repository import RUN

CLUSTERS = RUN / "clusters"

app = typer.Typer(
    help="A real Kubernetes cluster for trying and testing. Where CLUSTER_KUBECONFIG names a kubeconfig, that cluster is "
    "used, and nothing is started or ended. Else it is the API server and etcd in the folder KUBEBUILDER_ASSETS; or kind, "
    "where a container engine answers and the cluster starts (KIND_NODE_IMAGE chooses its Kubernetes); or an API server "
    "and etcd that are built here. `up` says which it is, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", name):
        raise typer.BadParameter(f"{name!r}: use small letters, digits, and dashes between them, at most 42")
    return name


Name = Annotated[str, typer.Option("--name", callback=_checked_name, help="Which of several clusters.")]


@app.command()
def up(name: Name = "default") -> None:
    """Start the cluster, unless it runs already; if the control plane has to be built, that takes 3 to 6 minutes, once."""
    with _errors_as_sentences():
        given = given_cluster()
        if given is not None:
            typer.echo(f"cluster {name}: {given.origin}")
            typer.echo(f"kubeconfig: {given.kubeconfig}")
            return
        folder = CLUSTERS / name
        with _only_command_on(name):
            cluster = find(folder)
            if cluster is not None and (problem := cluster.problem()) is not None:
                typer.echo(f"cluster {name}: {problem}, so it is started again", err=True)
                cluster.end()
                cluster = None
            runs_already = " (it runs already)" if cluster is not None else ""
            if cluster is None:
                cluster = start(name, folder, say=lambda sentence: typer.echo(sentence, err=True))
        typer.echo(f"cluster {name}: {cluster.origin}{runs_already}")
        typer.echo(f"kubeconfig: {cluster.kubeconfig}")
        typer.echo(f"kubectl: {cluster.kubectl}")


@app.command()
def down(name: Name = "default") -> None:
    """End the cluster and remove its data."""
    with _errors_as_sentences():
        given = given_cluster()
        if given is not None:
            typer.echo(f"cluster {name}: left as it is, because it is {given.origin}")
            return
        with _only_command_on(name):
            cluster = find(CLUSTERS / name)
            if cluster is not None:
                cluster.end()
        typer.echo(f"cluster {name}: {'ended' if cluster is not None else 'it does not run, so nothing was ended'}")


@app.command()
def status(name: Name = "default") -> None:
    """Say whether the cluster runs: exit code 0 if it does, 1 if it does not."""
    with _errors_as_sentences():
        given = given_cluster()
        if given is not None:
            typer.echo(f"cluster {name}: {given.origin}")
            return
        typer.echo(f"cluster {name}: runs, {_running(name).running()}")


@app.command()
def kubeconfig(name: Name = "default") -> None:
    """Print the path of the administrator's kubeconfig."""
    with _errors_as_sentences():
        given = given_cluster()
        typer.echo(given.kubeconfig if given is not None else _running(name).kubeconfig)


def _running(name: str) -> StandingCluster:
    up_command = "hack/cluster up" if name == "default" else f"hack/cluster up --name {name}"
    cluster = find(CLUSTERS / name)
    if cluster is None:
        raise ToolError(f"cluster {name} does not run: `{up_command}` starts it")
    if (problem := cluster.problem()) is not None:
        raise ToolError(
            f"cluster {name} is broken, {problem} (logs: {CLUSTERS / name}): `{up_command}` starts it again"
        )
    return cluster


@contextmanager
def _only_command_on(name: str) -> Iterator[None]:
    waiting = f"another command on cluster {name} is running: waiting for it"
    with hold_lock(CLUSTERS / f"{name}.lock", when_waiting=lambda: typer.echo(waiting, err=True)):
        yield


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    try:
        yield
    except ToolError as exc:
        typer.echo(f"hack/cluster: {exc}", err=True)
        raise typer.Exit(exc.exit_code) from exc
