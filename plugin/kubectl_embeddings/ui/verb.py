"""`kubectl embeddings ui`: serves the page until the command is interrupted, and opens the browser.

Called by app.py.
"""

import asyncio
import signal
import webbrowser
from dataclasses import dataclass
from typing import Annotated

import typer

from kubectl_embeddings.cluster import Cluster
from kubectl_embeddings.failures import DONE, WrongUse
from kubectl_embeddings.layout import Screen
from kubectl_embeddings.terminal import clock, screen
from kubectl_embeddings.ui.page_state import Place
from kubectl_embeddings.ui.poll import Poll
from kubectl_embeddings.ui.server import page_server
from kubectl_embeddings.user_connection import Connection, run_verb

STAY = "It shows what your kubeconfig may read, and changes nothing. Keep the address to yourself. Ctrl-C ends it."


@dataclass(frozen=True)
class Options:
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="The sources of all namespaces.")] = (
        False
    )
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="On 127.0.0.1.  [default: any free one]")] = 0
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False


def ui(connection: Connection, options: Options) -> None:
    """Show sources, dead letters and curves on a page in your browser, which only reads."""
    run_verb(
        connection,
        lambda cluster: show_page(cluster, options, screen()),
        all_namespaces=options.all_namespaces,
    )


async def show_page(cluster: Cluster, options: Options, terminal: Screen) -> int:
    """Returns after SIGINT or SIGTERM. Raises WrongUse."""
    poll = Poll(cluster, Place(cluster.host, cluster.namespace, cluster.commands), clock)
    try:
        async with page_server(poll.state, port=options.port) as addresses:
            terminal.emit(addresses.page)
            terminal.note(STAY)
            if not options.no_browser and not await asyncio.to_thread(webbrowser.open, addresses.once):
                terminal.note("No browser could be started: open the address yourself")
            await _interrupted()
    except OSError as exc:
        raise WrongUse(f"port {options.port} cannot be used ({exc.strerror}): name another one with --port") from exc
    finally:
        await poll.close()
    return DONE


async def _interrupted() -> None:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()
