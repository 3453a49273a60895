"""Shows the demo on the console: scenes, commands with their output, and the progress of the rows. Called by its stories."""

import shlex
import subprocess
import time
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from hack.demo.search import SearchText, answer, shortened, vector_in
from hack.demo.stage import Ground
from hack.errors import ToolError
from hack.processes.environment import program_environment
from hack.repository import ROOT

MOST_LINES = 18
LINE_EVERY_S = 2.0
LOOK_EVERY_S = 0.1


class Narrator:
    """Runs commands and SQL on a stage, and shows them on one console."""

    def __init__(self, stage: Ground, console: Console) -> None:
        self.stage = stage
        self._console = console

    def scene(self, title: str) -> None:
        self._console.rule(f"[bold]{title}", align="left")

    def say(self, line: str) -> None:
        self._console.print(f"  {escape(line)}", style="green", highlight=False)

    def show(self, line: str, *, dim: bool = False) -> None:
        self._console.print(escape(line), style="dim" if dim else None, highlight=False)

    def sql(self, statement: str, *params: object) -> None:
        """Run a statement as the application, and show it."""
        shown = statement
        for value in params:
            shown = shown.replace("%s", f"'{value}'" if isinstance(value, str) else str(value), 1)
        self._console.print(f"sql> {escape(shown)}", style="bold", highlight=False)
        self.stage.query(statement, *params)

    def curl(self, asked: SearchText) -> list[float]:
        """Ask for a vector, and show the command with the beginning of the answer."""
        self._console.print(f"$ {escape(shlex.join(asked.command))}", style="bold", highlight=False)
        answered = answer(asked)
        self.show(shortened(answered), dim=True)
        return vector_in(answered)

    def kubectl(self, *arguments: str, only: Callable[[str], bool] | None = None) -> None:
        """Run a command from the repository's root, and show it with the first lines of its output."""
        self._command(*arguments)
        lines = self.stage.kubectl.run(*arguments, within_s=60).splitlines()
        chosen = [line for line in lines if only is None or only(line)]
        for line in chosen[:MOST_LINES]:
            self.show(line)
        if len(chosen) > MOST_LINES:
            self.show(f"… and {len(chosen) - MOST_LINES} more", dim=True)

    def kubectl_wait(self, *arguments: str, source: str, column: str, within_s: float) -> None:
        """Run `kubectl wait`, and show the progress of the source's rows until it ends."""
        self._command(*arguments)
        process = subprocess.Popen(
            self.stage.kubectl.command(*arguments),
            env=program_environment(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            self._progress(lambda: process.poll() is not None, source, column, within_s)
            printed, _ = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise ToolError(f"kubectl {' '.join(arguments)}: {printed.strip()}")
        self.show(printed.strip())

    def until(self, check: Callable[[], bool], what: str, *, within_s: float = 60) -> float:
        """Wait until `check` is true. Returns the seconds that it took. Raises ToolError after `within_s`."""
        began = time.monotonic()
        while not check():
            if time.monotonic() - began > within_s:
                raise ToolError(f"waited {within_s:.0f} s for {what}")
            time.sleep(LOOK_EVERY_S)
        return time.monotonic() - began

    def _command(self, *arguments: str) -> None:
        words = [f"'{word}'" if "{" in word else word for word in arguments]
        self._console.print(f"$ kubectl {escape(' '.join(words))}", style="bold", highlight=False)

    def _progress(self, done: Callable[[], bool], source: str, column: str, within_s: float) -> None:
        """A bar on a terminal, otherwise a plain line every 2 s."""
        total = self._count("true")
        columns = (TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} rows"))
        last_line = 0.0
        deadline = time.monotonic() + within_s
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True) as bar:
            task = bar.add_task("fresh", total=total)
            while not done() and time.monotonic() < deadline:
                fresh = self._count(f"{column} IS NOT NULL")
                status = self.stage.kubectl.get("embeddingsource", source).get("status", {})
                jobs = status.get("jobs", {})
                tail = f"fresh {fresh}, due {total - fresh}, open {jobs.get('open', 0)}, dead {jobs.get('deadLettered', 0)}"
                bar.update(task, completed=fresh, description=tail)
                if not self._console.is_terminal and time.monotonic() - last_line > LINE_EVERY_S:
                    self.show(f"  {tail}", dim=True)
                    last_line = time.monotonic()
                time.sleep(LOOK_EVERY_S)

    def _count(self, condition: str) -> int:
        return int(str(self.stage.query(f"SELECT count(*) FROM public.businesses WHERE {condition}")[0][0]))  # noqa: S608
