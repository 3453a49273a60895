"""The command `kubectl embeddings`: its verbs with their arguments. Each is carried out by the module of its name.

kubectl starts it as `kubectl-embeddings`. Every verb ends with one of the exit codes of failures.py.
"""

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from kubectl_embeddings import dead_letter_groups, jobs, operator_verbs, replay, source_verbs, status
from kubectl_embeddings.failures import CommandFailed
from kubectl_embeddings.layout import one_line
from kubectl_embeddings.option_groups import with_option_groups
from kubectl_embeddings.terminal import OperatorNamespace, Output, ShowVersion, SomeSources, clock, screen, show_error
from kubectl_embeddings.ui import verb as ui
from kubectl_embeddings.user_connection import Connection, run_verb

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def kubectl_embeddings(version: ShowVersion = False) -> None:
    """What becomes of embeddings, and what to do about it, with the rights of your kubeconfig.

    The exit code is 0 if all is done, 1 if something failed, 2 if the arguments can't be used, 3 if something was not found.
    """


def verb(name: str) -> Callable[[Callable[..., None]], None]:
    """Registers a verb, whose options may be groups."""

    def register(function: Callable[..., None]) -> None:
        app.command(name)(_reporting(with_option_groups(function)))

    return register


def _reporting(function: Callable[..., None]) -> Callable[..., None]:
    """Why the verb has failed becomes a sentence, and the exit code."""

    @wraps(function)
    def run(**given: Any) -> None:
        try:
            function(**given)
        except CommandFailed as exc:
            show_error(f"kubectl embeddings: {one_line(str(exc))}")
            raise typer.Exit(exc.code) from None

    return run


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
    job_or_row: Annotated[str, typer.Argument(metavar="JOB|SOURCE/ID", help="An EmbeddingJob, or a row by its id.")],
    operator_namespace: OperatorNamespace = None,
    output: Output = None,
) -> None:
    """Tell the story of a job or of a row in the order of time, why it waits, and what to do."""
    run_verb(
        connection,
        lambda cluster: operator_verbs.explain(
            cluster, job_or_row, screen(output), operator_namespace=operator_namespace, now=clock.now()
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


for _name, _function in source_verbs.VERBS.items():
    verb(_name)(_function)
verb("ui")(ui.ui)
