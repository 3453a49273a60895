"""The verbs on sources with their arguments: those that change one, follow one, and remove what it has left. Called by app.py."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from kubectl_embeddings import approval, removal_script, source_changes, watching
from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.failures import INTERRUPTED
from kubectl_embeddings.terminal import Output, SomeSources, SourceName, Sources, agreed, clock, is_terminal, screen
from kubectl_embeddings.terminal import timeout as parsed_timeout
from kubectl_embeddings.user_connection import Connection, run_verb


def suspend(connection: Connection, names: Sources) -> None:
    """Stop jobs and calls of sources. Edits are still recorded."""
    run_verb(connection, lambda cluster: source_changes.suspend(cluster, names, screen(), wanted=True))


def resume(connection: Connection, names: Sources) -> None:
    """End the suspension of sources."""
    run_verb(connection, lambda cluster: source_changes.suspend(cluster, names, screen(), wanted=False))


def reconcile(
    connection: Connection,
    names: Sources,
    wait: Annotated[bool, typer.Option("--wait", help="Until the sweep and the audit are done.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long --wait waits: 30s, 10m or 2h.")] = "10m",
) -> None:
    """Request a sweep and an audit of sources now, and end the pauses of the provider."""
    run_verb(
        connection,
        lambda cluster: source_changes.reconcile(
            cluster, names, screen(), wait=parsed_timeout(timeout) if wait else None, clock=clock
        ),
    )


def approve(
    connection: Connection,
    name: SourceName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Approve that a changed model or text embeds a source again, after showing rows and price."""
    run_verb(connection, lambda cluster: approval.approve(cluster, name, screen(), agreed=lambda: yes or agreed()))


def remove(connection: Connection, name: SourceName) -> None:
    """Print the SQL that removes what the operator has created in the database for a source. Runs none of it."""
    run_verb(connection, lambda cluster: removal_script.show_removal(cluster, name, screen()))


def watch(connection: Connection, names: SomeSources = None, output: Output = None) -> None:
    """Show sources and their newest transitions as they change, until it is interrupted."""
    live = is_terminal() and output is None

    def work(cluster: Requests) -> Awaitable[int]:
        if live:
            return watching.watch_live(cluster, names or (), clock=clock)
        return watching.watch_lines(cluster, names or (), screen(output), clock=clock)

    try:
        run_verb(connection, work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


VERBS: dict[str, Callable[..., None]] = {
    "suspend": suspend,
    "resume": resume,
    "reconcile": reconcile,
    "approve": approve,
    "remove": remove,
    "watch": watch,
}
