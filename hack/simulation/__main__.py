"""`make simulate`: a day of provider weather over 100,000 rows, in less than a minute. Prints a table in Markdown."""

import sys
from typing import Annotated

import typer

from hack.simulation.day import simulate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="How many rows become due in the day.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of all that is left to chance.")] = 1,
) -> None:
    """A day of provider weather on a virtual clock: what became of each row, and what it cost."""
    report = simulate(rows, seed=seed)
    typer.echo(report.table())
    if report.innocent_dead_letters or report.not_fresh or report.calls > report.calls_allowed:
        typer.echo("\n".join([*report.innocent_dead_letters[:20], *report.not_fresh[:20]]), err=True)
        sys.exit(1)


app()
