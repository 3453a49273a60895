"""The `embedding-operator` command. Settings come from the environment; no argument is ever a secret."""

import asyncio
import sys
from functools import partial
from typing import Annotated

import typer

from embedding_operator.cli.start import begin_log, end_on_signals, settings_of, until_stopped, without_other_clients
from embedding_operator.cli.verdicts import failed, passed, skipped
from embedding_operator.settings import Settings, SettingsRefused, completion_index, settings_of_this_process

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def embedding_operator() -> None:
    """Keeps the vector embeddings of PostgreSQL tables fresh."""


@app.command()
def run(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Log what would be done for each due row, and do none of it.")
    ] = False,
) -> None:
    """Run the operator in its namespace, until SIGTERM."""
    end_on_signals()
    settings = _settings()
    begin_log(settings)
    # Importing kopf and the client needs a second, which --help does not have to wait for.
    if dry_run:
        from embedding_operator.dry_run import run as run_process
    else:
        without_other_clients()
        from embedding_operator.process import run as run_process
    raise typer.Exit(asyncio.run(until_stopped(partial(run_process, settings))))


@app.command()
def check() -> None:
    """Check everything that the operator needs: ✓, or ✗ with what to do. Creates and writes nothing.

    One text is sent to the provider of each model that a source names. The exit code is 0 if every check passes, 1 if one
    fails, 2 if the settings can't be used.
    """
    try:
        settings = settings_of_this_process()
    except SettingsRefused as exc:
        for problem in exc.problems:
            typer.echo(failed("settings", problem))
        typer.echo(skipped("all other checks", "they need settings that can be used"))
        sys.exit(2)
    begin_log(settings)
    typer.echo(passed("settings", "each of them can be used"))
    from embedding_operator.cli.checks import check as run_checks

    raise typer.Exit(asyncio.run(run_checks(settings, typer.echo)))


@app.command()
def backfill_worker(
    source: Annotated[str, typer.Argument(help="The EmbeddingSource, as NAME or NAMESPACE/NAME.")],
    index: Annotated[
        int | None, typer.Option(min=0, help="Which share: 0 is the first. [default: $JOB_COMPLETION_INDEX]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many shares there are. [default: spec.backfill.workers]")
    ] = None,
    run: Annotated[str, typer.Option(help="End at once where another backfill than this one is active.")] = "",
) -> None:
    """Embed a share of the rows of a backfill, beside other workers. Needs the database and the provider, and no cluster.

    The exit code is 0 if nothing is left of the share or the backfill has ended, 143 after SIGTERM, 1 after an unexpected error,
    2 if the settings or arguments can't be used.
    """
    end_on_signals()
    settings = _settings()
    begin_log(settings)
    from embedding_operator.cli.backfill_worker import Wanted
    from embedding_operator.cli.backfill_worker import run as run_worker

    wanted = Wanted(source, completion_index() if index is None else index, workers, run)
    raise typer.Exit(asyncio.run(until_stopped(partial(run_worker, settings, wanted))))


@app.command()
def serve() -> None:
    """Embed search texts over HTTP, at POST /v1/embeddings, with the models of the sources, until SIGTERM.

    It reads the sources in its namespace, needs no database, and writes nothing. The exit code is 0 after SIGTERM, 2 if the
    settings can't be used.
    """
    end_on_signals()
    from embedding_operator.cli.serve import serve as serve_until_stopped

    raise typer.Exit(serve_until_stopped())


@app.command()
def plan(
    source: Annotated[str, typer.Argument(help="The name of an EmbeddingSource.")] = "",
    file: Annotated[
        typer.FileText | None, typer.Option("--filename", "-f", help="A manifest with EmbeddingSources; - for stdin.")
    ] = None,
    rows_per_second: Annotated[
        float | None, typer.Option(min=0.1, help="With mode Jobs, in your cluster: 120 if not given.")
    ] = None,
    backfill_rows_per_second: Annotated[
        float | None, typer.Option(min=0.1, help="With mode Auto: computed from calls of 0.2 s if not given.")
    ] = None,
) -> None:
    """Say what a source would embed, how long that takes, and what limits it. Calls no model and writes nothing.

    The times are estimates. The exit code is 0 if the source can be served, 1 if not, 2 if the settings can't be used.
    """
    if (file is None) == (not source):
        raise typer.BadParameter("name either an EmbeddingSource, or a manifest with -f")
    settings = _settings()
    begin_log(settings)
    from embedding_operator.cli.plan import plan_manifest, plan_source
    from embedding_operator.cli.plan_values import Rates

    rates = Rates(rows_per_second, backfill_rows_per_second)
    planned = (
        plan_source(settings, source, rates, typer.echo)
        if file is None
        else plan_manifest(settings, file, rates, typer.echo)
    )
    raise typer.Exit(asyncio.run(planned))


SourceName = Annotated[str, typer.Argument(help="The name of an EmbeddingSource.")]
PrintSql = Annotated[bool, typer.Option("--dry-run", help="Print the SQL that would be run, and run none of it.")]


@app.command()
def pause_triggers(source: SourceName, dry_run: PrintSql = False) -> None:
    """Drop a source's triggers, until resume-triggers. Meanwhile only the audit finds edits."""
    _change_triggers(source, resume=False, dry_run=dry_run)


@app.command()
def resume_triggers(source: SourceName, dry_run: PrintSql = False) -> None:
    """Create a source's triggers again, and have the whole table audited."""
    _change_triggers(source, resume=True, dry_run=dry_run)


def _change_triggers(source: str, *, resume: bool, dry_run: bool) -> None:
    settings = _settings()
    begin_log(settings)
    from embedding_operator.cli.trigger_commands import run as run_command

    raise typer.Exit(asyncio.run(run_command(settings, source, typer.echo, resume=resume, dry_run=dry_run)))


def _settings() -> Settings:
    return settings_of(Settings)
