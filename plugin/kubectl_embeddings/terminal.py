"""The terminal of this process, or what is in its place, and the arguments that several verbs have.

Called by app.py and source_verbs.py, which define the verbs.
"""

import shutil
import sys
from datetime import timedelta
from importlib.metadata import version
from typing import Annotated

import typer

from embedding_worker.clock import SystemClock
from kubectl_embeddings.failures import WrongUse
from kubectl_embeddings.layout import Format, Screen, parsed_duration, printable

clock = SystemClock()

Output = Annotated[Format | None, typer.Option("--output", "-o", help="For scripts, instead of the text for people.")]
SourceName = Annotated[str, typer.Argument(metavar="SOURCE", help="The name of an EmbeddingSource.")]
Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Names of EmbeddingSources.")]
OperatorNamespace = Annotated[
    str | None,
    typer.Option("--operator-namespace", help="Where the operator's pods are.  [default: the namespace]"),
]
SomeSources = Annotated[
    list[str] | None, typer.Argument(metavar="[SOURCE...]", help="Names of EmbeddingSources.  [default: all]")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kubectl-embeddings {version('embedding-operator')}")
        raise typer.Exit


ShowVersion = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
]


def is_terminal() -> bool:
    """Whether a person sees the output."""
    return sys.stdout.isatty()


def screen(output: Format | None = None) -> Screen:
    """This process's output: in the width of its terminal, or in lines of any length where there is none.

    What people see has no control characters, wherever the text comes from.
    """
    width = shutil.get_terminal_size().columns if is_terminal() else None
    return Screen(show if output is None else typer.echo, show_error, width, output)


def show(text: str) -> None:
    typer.echo(printable(text))


def show_error(text: str) -> None:
    typer.echo(printable(text), err=True)


def timeout(text: str) -> timedelta:
    """Raises WrongUse."""
    try:
        return parsed_duration(text)
    except ValueError as exc:
        raise WrongUse(f"--timeout: {exc}") from None


def agreed() -> bool:
    """Whether the person agrees. Raises WrongUse where nobody can be asked."""
    if not sys.stdin.isatty():
        raise WrongUse("there is no terminal to ask in: add --yes to approve without a question")
    return typer.confirm("Approve it?")
