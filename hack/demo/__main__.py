"""`make demo` shows the operator on this machine, in about two minutes once the control plane is built."""

import os
import signal
import sys
from enum import StrEnum
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from hack.demo import failures, outage
from hack.demo import story as first_story
from hack.demo.data import Business, businesses
from hack.demo.failures import Failures
from hack.demo.narrator import Narrator
from hack.demo.outage import Outage
from hack.demo.provider import Provider, gemini, local
from hack.demo.stage import Stage, end_kept, stage
from hack.demo.story import Story
from hack.errors import ToolError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


class ProviderName(StrEnum):
    LOCAL = "local"
    GEMINI = "gemini"


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Leave all of it running, to look around.")] = False,
    few: Annotated[bool, typer.Option(help="A fifth of the businesses, for a quick look.")] = False,
    provider: Annotated[
        ProviderName, typer.Option(help="gemini: Google's API, by GEMINI_API_KEY.")
    ] = ProviderName.LOCAL,
    endpoint: Annotated[str | None, typer.Option(help="Of a server that answers as Gemini's API does.")] = None,
    down: Annotated[bool, typer.Option(help="End what --keep has left running, and nothing else.")] = False,
) -> None:
    """Businesses in PostgreSQL, a source declared once, and every row kept fresh: shown on a real API server."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background jobs ignore SIGINT unless they say otherwise
        signal.signal(number, _interrupt)
    try:
        if down:
            end_kept(say)
            return
        chosen = gemini(endpoint) if provider is ProviderName.GEMINI else local()
        with stage(cast(few=few), settings=chosen.settings, keep=keep, say=say) as up:
            try:
                show_all(up, chosen)
            except ToolError:
                console.print(up.operator.tail(), style="dim", markup=False)
                raise
        if keep:
            _show_around(up)
            sys.stdout.flush()
            os._exit(0)  # see stage.HELD
        else:
            say("the demo is over, and all that it started has ended")
    except ToolError as exc:
        console.print(f"make demo: {exc}", style="red", markup=False)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        say("interrupted: all that the demo started has ended")
        sys.exit(130)


def show_all(up: Stage, chosen: Provider) -> None:
    """Show the story, those of failures and of an outage if the provider can be made to fail, and a search at the end."""
    narrator = Narrator(up, console)
    story = Story(narrator, chosen)
    story.show()
    if up.gemini is not None:
        Failures(narrator, up.gemini).show()
        Outage(narrator, up.gemini, up.operator).show()
    story.searches()


def cast(*, few: bool) -> list[Business]:
    """The businesses of the demo; a few are every fifth, and those that the stories name."""
    everyone = businesses()
    if not few:
        return everyone
    named = first_story.NAMED | failures.NAMED | outage.NAMED
    return [each for n, each in enumerate(everyone) if n % 5 == 0 or each.name in named]


def say(line: str) -> None:
    console.print(f"• {line}", markup=False)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _show_around(up: Stage) -> None:
    console.rule("[bold]All of it is still up", align="left")
    for line in (
        f"export KUBECONFIG={up.kubeconfig}",
        f"alias kubectl={up.kubectl.cluster.kubectl}",
        "kubectl get embeddingsources,embeddingjobs",
        "kubectl describe embeddingsource businesses",
        f"tail -f {up.operator.log}",
        f"curl {up.search_url}/v1/models",
        f'psql "{up.database_url}"   # any client; the tables of the operator are in schema embedding_operator',
        "make demo-down                # ends it",
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)


app()
