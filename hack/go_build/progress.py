"""Shows the progress of a build: a bar on a terminal, otherwise a plain line every 15 s.

Called by the build, which takes minutes the first time.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 15.0


class BuildProgress(Protocol):
    """The context of one build. `at` is called often, also where nothing has changed."""

    def say(self, line: str) -> None: ...
    def at(self, doing: str, done: int, total: int | None) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...


class Lines:
    """A plain line every `every_s`, for logs."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        every_s: float = LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.say = write
        self._every_s = every_s
        self._clock = clock
        self._began = self._written = clock()

    def at(self, doing: str, done: int, total: int | None) -> None:
        now = self._clock()
        if now - self._written >= self._every_s:
            self._written = now
            self.say(line_of(doing, done, total, seconds=now - self._began))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        return None


def line_of(doing: str, done: int, total: int | None, *, seconds: float) -> str:
    amount = f"{done:,}" if total is None else f"{done:,} of {total:,} packages"
    return f"{doing}: {amount}, {seconds:.0f} s"


class Bar:
    """A bar on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._progress.add_task("building", total=None)

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    def at(self, doing: str, done: int, total: int | None) -> None:
        self._progress.update(self._task, description=doing, completed=done, total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()


def progress_on_stderr() -> BuildProgress:
    console = Console(stderr=True)
    if console.is_terminal:
        return Bar(console)
    return Lines(lambda line: print(line, file=sys.stderr, flush=True))
