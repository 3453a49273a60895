"""How the commands begin: with settings, with a log, and with what a signal does. Called by commands.py and serve.py."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable

import typer

from embedding_operator.logs import set_up_logs
from embedding_operator.settings import Kind, Settings, SettingsRefused, command_settings
from embedding_operator.tasks import SIGNALS, end_at_once, stop_on_signals


def settings_of(kind: type[Kind]) -> Kind:
    """The settings, or exit code 2 with every problem on a line of its own."""
    try:
        return command_settings(kind)
    except SettingsRefused as exc:
        for problem in exc.problems:
            typer.echo(f"embedding-operator: {problem}", err=True)
        sys.exit(2)


def begin_log(settings: Settings) -> None:
    set_up_logs(settings)


def end_on_signals() -> None:
    """Until the process has its own handlers: the first process of a container has none from the kernel."""
    for number in SIGNALS:
        signal.signal(number, end_at_once)


def without_other_clients() -> None:
    """Keep kopf from importing those that are installed: `kubernetes` alone takes 23 MB, and kopf is given no object of it."""
    for name in ("kubernetes", "kubernetes_asyncio", "pykube"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as documented: importing it raises ModuleNotFoundError


async def until_stopped(run_process: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Run a process, and have SIGTERM set the event. Returns its exit code."""
    gc.freeze()  # what was imported stays: the garbage collector need not look through it again and again
    stop = asyncio.Event()
    stop_on_signals(stop)
    return await run_process(stop)
