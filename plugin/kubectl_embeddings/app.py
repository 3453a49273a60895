"""The command `kubectl embeddings`: its verbs with their arguments. Each is carried out by the module of its name.

kubectl starts it as `kubectl-embeddings`. Every verb ends with one of the exit codes of failures.py.
"""

import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

import typer

from embedding_worker.clock import SystemClock
from kubectl_embeddings import approval, dead_letter_groups, jobs, operator_verbs, replay, source_changes, status
from kubectl_embeddings.failures import WrongUse
from kubectl_embeddings.layout import Format, Screen, parsed_duration
from kubectl_embeddings.option_groups import with_option_groups
from kubectl_embeddings.user_connection import Connection, run_verb

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
clock = SystemClock()

Output = Annotated[Format | None, typer.Option("--output", "-o", help="For scripts, instead of the text for people.")]
Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Names of EmbeddingSources.")]
OperatorNamespace = Annotated[
    str | None,
    typer.Option("--operator-namespace", help="Where the operator's pods are.  [default: the namespace]"),
]
SomeSources = Annotated[
    list[str] | None, typer.Argument(metavar="[SOURCE...]", help="Names of EmbeddingSources.  [default: all]")
]


@app.callback()
def kubectl_embeddings() -> None:
    """What becomes of embeddings, and what to do about it, with the rights of your kubeconfig.

    The exit code is 0 if all is done, 1 if something failed, 2 if the arguments can't be used, 3 if something was not found.
    """


def verb(name: str) -> Callable[[Callable[..., None]], None]:
    """Registers a verb, whose options may be groups."""

    def register(function: Callable[..., None]) -> None:
        app.command(name)(with_option_groups(function))

    return register


@verb("status")
def _status(connection: Connection, names: SomeSources = None, output: Output = None) -> None:
    """Show each source, and what needs attention."""
    run_verb(connection, lambda cluster: status.show_status(cluster, names or (), screen(output), now=clock.now()))


@verb("jobs")
def _jobs(connection: Connection, wanted: jobs.Filter, output: Output = None) -> None:
    """List jobs, those that failed first."""
    run_verb(connection, lambda cluster: jobs.show_jobs(cluster, wanted, screen(output), now=clock.now()))


@verb("dead-letters")
def _dead_letters(connection: Connection, wanted: dead_letter_groups.Filter, output: Output = None) -> None:
    """Show the dead letters by their reasons, and what to do about each."""
    run_verb(
        connection,
        lambda cluster: dead_letter_groups.show_dead_letters(cluster, wanted, screen(output), now=clock.now()),
    )


@verb("explain")
def _explain(
    connection: Connection,
    name: Annotated[str, typer.Argument(metavar="JOB|SOURCE/ID", help="An EmbeddingJob, or a row by its id.")],
    operator_namespace: OperatorNamespace = None,
    output: Output = None,
) -> None:
    """Tell the story of a job or of a row in the order of time, why it waits, and what to do."""
    run_verb(
        connection,
        lambda cluster: operator_verbs.explain(
            cluster, name, screen(output), operator_namespace=operator_namespace, now=clock.now()
        ),
    )


@verb("report")
def _report(connection: Connection, options: operator_verbs.Options) -> None:
    """Write an archive for a bug report, without secrets: sources, jobs, Events, pods, logs, metrics and versions."""
    run_verb(connection, lambda cluster: operator_verbs.write_report(cluster, options, screen(), now=clock.now()))


@verb("replay")
def _replay(
    connection: Connection,
    selection: replay.Selection,
    names: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help="Names of EmbeddingJobs.")] = None,
    rate: Annotated[str, typer.Option("--rate", help="At most 10/s, 30/m or 100/h.")] = "10/s",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replayed, and replay nothing.")] = False,
) -> None:
    """Try dead letters again, after the cause was corrected: the jobs named, or those selected."""
    run_verb(
        connection,
        lambda cluster: replay.show_replay(
            cluster, names or (), selection, screen(), pace=replay.Pace(replay.rate(rate), dry_run, clock)
        ),
    )


@verb("suspend")
def _suspend(connection: Connection, names: Sources) -> None:
    """Stop jobs and calls of sources. Edits are still recorded."""
    run_verb(connection, lambda cluster: source_changes.suspend(cluster, names, screen(), wanted=True))


@verb("resume")
def _resume(connection: Connection, names: Sources) -> None:
    """End the suspension of sources."""
    run_verb(connection, lambda cluster: source_changes.suspend(cluster, names, screen(), wanted=False))


@verb("reconcile")
def _reconcile(
    connection: Connection,
    names: Sources,
    wait: Annotated[bool, typer.Option("--wait", help="Until the sweep and the audit are done.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long --wait waits: 30s, 10m or 2h.")] = "10m",
) -> None:
    """Request a sweep and an audit of sources now, and end the pauses of the provider."""
    run_verb(
        connection,
        lambda cluster: source_changes.reconcile(
            cluster, names, screen(), wait=_timeout(timeout) if wait else None, clock=clock
        ),
    )


@verb("approve")
def _approve(
    connection: Connection,
    name: Annotated[str, typer.Argument(metavar="SOURCE", help="The name of an EmbeddingSource.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Approve that a changed model or text embeds a source again, after showing rows and price."""
    run_verb(connection, lambda cluster: approval.approve(cluster, name, screen(), agreed=lambda: yes or _agreed()))


def screen(output: Format | None = None) -> Screen:
    """This process's output: in the width of its terminal, or in lines of any length where there is none."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return Screen(typer.echo, lambda text: typer.echo(text, err=True), width, output)


def _timeout(text: str) -> timedelta:
    try:
        return parsed_duration(text)
    except ValueError as exc:
        raise WrongUse(f"--timeout: {exc}") from None


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise WrongUse("there is no terminal to ask in: add --yes to approve without a question")
    return typer.confirm("Approve it?")
