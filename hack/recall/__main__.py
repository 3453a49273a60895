"""`make recall`: measures the provider `local`, and multilingual-e5-small beside it. Prints a table in Markdown."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated

import typer

from hack.recall.measure import Measured, measure
from hack.recall.models import MODELS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
HEADER = (
    "| model | dimensions | same language, at 1 | at 5 | across languages, at 1 | at 5 "
    "| texts/s of one core | ms a search | MB |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def in_a_new_process(name: str) -> Measured:
    """Each model has a process of its own, so that the memory is of one model alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, name).result()


def recall_cells(measured: Measured) -> str:
    same, across = measured.same_language, measured.across_languages
    return " | ".join(f"{share:.2f}" for share in (same.at_1, same.at_5, across.at_1, across.at_5))


def line(measured: Measured) -> str:
    rates = (measured.texts_per_s, measured.ms_per_search, measured.memory_mb)
    cells = " | ".join(f"{rate:.1f}" if rate < 10 else f"{rate:.0f}" for rate in rates)
    return f"| `{measured.name}` | {measured.dimensions} | {recall_cells(measured)} | {cells} |"


def table(found: Sequence[Measured]) -> str:
    return "\n".join([HEADER, *(line(measured) for measured in found)])


@app.command()
def main(only: Annotated[str, typer.Option(help=f"One of {', '.join(MODELS)}.")] = "") -> None:
    """Recall, rates and memory of models that run on this machine, over the demo's businesses (docs/providers.md)."""
    if only and only not in MODELS:
        raise typer.BadParameter(f"ONLY is {only!r}: one of {', '.join(MODELS)}")
    typer.echo(table([in_a_new_process(name) for name in ([only] if only else MODELS)]))


if __name__ == "__main__":
    app()
