"""`kubectl embeddings watch`: the sources as they change, in a view that is drawn every second, or in lines for other programs.

Called by source_verbs.py. It goes on until it is interrupted.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from embedding_operator.resources import GROUP, VERSION
from embedding_worker.clock import Clock
from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.layout import Format, Screen, document, without_managed_fields
from kubectl_embeddings.live_state import ALL_HEADERS, LiveState
from kubectl_embeddings.source_watch import ANSWERS_AGAIN, Change, SourceWatch
from kubectl_embeddings.status import found_sources

if TYPE_CHECKING:
    from rich.text import Text

DRAW_EVERY_S = 1.0
LEFT_ALONE = ("TEXTS/S", "OLDEST")
"""These change without a change of the source."""


async def watch_lines(cluster: Requests, names: Sequence[str], screen: Screen, *, clock: Clock) -> int:
    """A line for each change of what is shown, or with a format a document for each change. Raises NotFound, ApiServerError."""
    watch, printed = SourceWatch(cluster, clock=clock, note=screen.note), Lines(screen)
    async for change in _wanted(cluster, names, watch):
        if screen.format:
            screen.emit(_document(change, screen.format))
        else:
            printed.show(change, clock)
    raise AssertionError("a watch does not end")


class Lines:
    """The lines of a table that grows: its columns are as wide as they were at the beginning, or wider."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._state = LiveState()
        self._shown: dict[str, list[str]] = {}
        self._widths = [len(header) for header in ALL_HEADERS]

    def show(self, change: Change, clock: Clock) -> None:
        now = clock.now()
        self._state.apply(change, now)
        row = self._state.row(change.name, now)
        compared = [cell for cell, header in zip(row, ALL_HEADERS, strict=True) if header not in LEFT_ALONE]
        if self._shown.get(change.name) == compared:
            return
        if not self._shown:
            self._emit(row, header=True)
        self._shown[change.name] = compared
        self._emit(row)

    def _emit(self, row: Sequence[str], *, header: bool = False) -> None:
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        cells = ALL_HEADERS if header else row
        self._screen.emit(
            "  ".join(cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)).rstrip()
        )


def _document(change: Change, output: Format) -> str:
    """One line of JSON, or a document of YAML with its separator, in the form of the API server's own events."""
    source = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "EmbeddingSource"} | without_managed_fields(change.body)
    event = {"type": str(change.kind), "object": source}
    return json.dumps(event, ensure_ascii=False) if output is Format.JSON else f"---\n{document(event, output)}"


async def _wanted(cluster: Requests, names: Sequence[str], watch: SourceWatch) -> AsyncIterator[Change]:
    """The changes of the sources of these names, all of which exist at the beginning; of all where none is named."""
    if names:
        await found_sources(cluster, names)
    async for change in watch.changes():
        if not names or change.name in names:
            yield change


async def watch_live(cluster: Requests, names: Sequence[str], *, clock: Clock) -> int:
    """The view, which stays on the terminal as it was when it was interrupted. Raises NotFound, ApiServerError."""
    from rich.console import Console
    from rich.live import Live

    state = LiveState()
    watch = SourceWatch(cluster, clock=clock, note=lambda sentence: _noted(state, sentence))
    reader = asyncio.create_task(_read(cluster, names, watch, state, clock))
    try:
        with Live(console=Console(), auto_refresh=False) as live:
            while not reader.done():
                live.update(drawn(state, clock), refresh=True)
                await asyncio.wait({reader}, timeout=DRAW_EVERY_S)
        await reader
    finally:
        reader.cancel()
    raise AssertionError("a watch does not end")


async def _read(cluster: Requests, names: Sequence[str], watch: SourceWatch, state: LiveState, clock: Clock) -> None:
    async for change in _wanted(cluster, names, watch):
        state.apply(change, clock.now())


def _noted(state: LiveState, sentence: str) -> None:
    state.problem = "" if sentence == ANSWERS_AGAIN else sentence


def drawn(state: LiveState, clock: Clock) -> "Text":
    """The state in the size of the terminal. What needs attention is yellow, and what prevents the view red."""
    from rich.text import Text

    size = shutil.get_terminal_size()
    attention, text = state.needs_attention(), Text(no_wrap=True)
    for number, line in enumerate(state.lines(clock.now(), width=size.columns, height=size.lines - 1)):
        style = "bold" if number == 0 else "yellow" if line.partition(" ")[0] in attention else ""
        text.append(f"{line}\n", style="red" if line and line == state.problem[: len(line)] else style)
    return text
