"""`hack/cluster up | down | status | kubeconfig`: a cluster that stays between commands.

Called by people. Tests and demo start their control planes through hack.control_plane.choice instead.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hack.control_plane.choice import built_origin, given_cluster
from hack.control_plane.processes import ADMIN_KUBECONFIG, ControlPlane
from hack.control_plane.state import State, end_and_remove, read_state
from hack.errors import ToolError
from hack.locked import locked

CLUSTERS = Path(__file__).parents[2] / ".run" / "clusters"

app = typer.Typer(
    help="A real Kubernetes control plane for trying and testing: etcd and an API server, no nodes. Where "
    "CLUSTER_KUBECONFIG names a kubeconfig, that cluster is used, and nothing is started or ended.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", name):
        raise typer.BadParameter(f"{name!r}: small letters, digits and dashes between them, at most 42")
    return name


Name = Annotated[str, typer.Option("--name", callback=_checked_name, help="Which of several clusters is meant.")]


@app.command()
def up(name: Name = "default") -> None:
    """Start the cluster, unless it runs already; the first time builds it (3 to 6 minutes)."""
    with _errors_as_sentences():
        given = given_cluster()
        if given is not None:
            typer.echo(f"cluster {name}: {given.origin}")
            typer.echo(f"kubeconfig: {given.kubeconfig}")
            return
        folder = CLUSTERS / name
        with _only_command_on(name):
            state = read_state(folder)
            runs_already = state is not None and not state.ended
            if state is not None and not runs_already:
                typer.echo(f"cluster {name}: {' and '.join(state.ended)} no longer run, so it starts anew", err=True)
                end_and_remove(folder, state.daemons)
            if not runs_already:
                ControlPlane(folder, ends_with_parent=False).start()
                state = read_state(folder)
        assert state is not None
        typer.echo(f"cluster {name}: {built_origin(state.version)}{' (it runs already)' if runs_already else ''}")
        typer.echo(f"kubeconfig: {folder / ADMIN_KUBECONFIG}")
        typer.echo(f"kubectl: {state.kubectl}")


@app.command()
def down(name: Name = "default") -> None:
    """End the cluster and remove all that it holds."""
    with _errors_as_sentences():
        given = given_cluster()
        if given is not None:
            typer.echo(f"cluster {name}: left alone, for it is {given.origin}")
            return
        with _only_command_on(name):
            state = read_state(CLUSTERS / name)
            if state is not None:
                end_and_remove(CLUSTERS / name, state.daemons)
        typer.echo(f"cluster {name}: {'ended' if state is not None else 'there is none, nothing to end'}")


@app.command()
def status(name: Name = "default") -> None:
    """Say whether the cluster runs: exit code 0 if it does, 1 if it does not."""
    with _errors_as_sentences():
        given = given_cluster()
        if given is not None:
            typer.echo(f"cluster {name}: {given.origin}")
            return
        state = _running_state(name)
        processes = ", ".join(f"{daemon.name} {daemon.pid}" for daemon in state.daemons)
        address = f"https://127.0.0.1:{state.ports.apiserver}"
        typer.echo(f"cluster {name}: runs, Kubernetes {state.version} at {address} (processes: {processes})")


@app.command()
def kubeconfig(name: Name = "default") -> None:
    """Print the path of the administrator's kubeconfig."""
    with _errors_as_sentences():
        given = given_cluster()
        if given is not None:
            typer.echo(given.kubeconfig)
            return
        _running_state(name)
        typer.echo(CLUSTERS / name / ADMIN_KUBECONFIG)


def _running_state(name: str) -> State:
    start = "hack/cluster up" if name == "default" else f"hack/cluster up --name {name}"
    state = read_state(CLUSTERS / name)
    if state is None:
        raise ToolError(f"cluster {name} does not run: `{start}` starts it")
    if state.ended:
        ended = " and ".join(state.ended)
        raise ToolError(f"cluster {name} is broken, {ended} ended (logs: {CLUSTERS / name}): `{start}` starts it anew")
    return state


@contextmanager
def _only_command_on(name: str) -> Iterator[None]:
    waiting = f"another command on cluster {name} is under way: waiting for it"
    with locked(CLUSTERS / f"{name}.lock", when_waiting=lambda: typer.echo(waiting, err=True)):
        yield


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    try:
        yield
    except ToolError as exc:
        typer.echo(f"hack/cluster: {exc}", err=True)
        raise typer.Exit(exc.exit_code) from exc
