"""`make bench-profile`: where the operator's processor time goes while each row gets an EmbeddingJob.

py-spy samples the process in two sections of a first fill. The first gives the shares of the parts of the code (stacks.py), and
the second a flame graph. How much processor time a job takes is counted by the kernel in the first one: it is a little more than
without py-spy, which stops the process for each sample. Threads that wait have no samples.
"""

import logging
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import structlog
import typer

from hack.benchmarks.machine import machine
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.processor_time import Processes
from hack.benchmarks.setting import Setting
from hack.benchmarks.stacks import samples_by_part, table
from hack.benchmarks.waiting import wait_until
from hack.errors import ToolError
from hack.processes.daemons import Daemon, end, is_running, log_tail, start_daemon, wait_until_ready
from hack.repository import ROOT

BUILD = ROOT / "build"
RAW, FLAME_GRAPH = BUILD / "bench-profile.txt", BUILD / "bench-profile.svg"
SAMPLES_A_SECOND = 100
WARM, MEASURED, DRAWN = 0.1, 0.6, 0.9
"""At which parts of the rows each section begins and ends: until WARM, the window and the connections are growing."""
READY_WITHIN_S, WRITES_WITHIN_S, WITHIN_S = 15.0, 30.0, 1_800.0
LOOK_EVERY_S = 0.5
MS = 1_000


@dataclass(frozen=True)
class Seen:
    """At one moment."""

    jobs: float
    """How many rows have their vector."""
    spent_s: float
    """Processor time of the operator's process."""


def profile(setting: Setting) -> str:
    """The table of the parts. Writes RAW and FLAME_GRAPH. Raises ToolError if py-spy may not look at the process."""
    with operator_system(setting, setting.rows) as system:
        system.apply_source(backfill={"mode": "Jobs"})
        operator = system.start_operator(settings={"EMBEDDING_LOG_LEVEL": "info"})
        pid = operator.daemon.pid
        begun = _see_when(system, pid, WARM)
        spy = _start_spy(setting, pid, "raw", RAW)
        ended = _see_when(system, pid, MEASURED)
        _stop_spy(spy, RAW)
        spy = _start_spy(setting, pid, "flamegraph", FLAME_GRAPH)
        _see_when(system, pid, DRAWN)
        _stop_spy(spy, FLAME_GRAPH)
    samples = samples_by_part(RAW.read_text())
    jobs = ended.jobs - begun.jobs
    setting.say(f"{samples.total():,} samples while {jobs:,.0f} jobs were done")
    return table(samples, ms_per_job=MS * (ended.spent_s - begun.spent_s) / jobs)


def _see_when(system: OperatorSystem, pid: int, part: float) -> Seen:
    """What is counted as soon as this part of the rows has vectors."""
    number = f"SELECT count(*) FROM public.{system.listings.name} WHERE embedding IS NOT NULL"
    wait_until(
        lambda: system.listings.number(number) >= part * system.setting.rows,
        within_s=WITHIN_S,
        because=f"{part:.0%} of the rows have vectors",
        every_s=LOOK_EVERY_S,
    )
    return Seen(system.listings.number(number), Processes(pid, (), None).spent().operator)


def _start_spy(setting: Setting, pid: int, form: str, output: Path) -> Daemon:
    """Return when it is sampling. It samples until it is stopped."""
    output.unlink(missing_ok=True)
    log = setting.folder / f"py-spy-{form}.log"
    program = Path(sys.executable).with_name("py-spy")
    given = ["--pid", pid, "--rate", SAMPLES_A_SECOND, "--format", form, "--output", output]
    files = ["--full-filenames"] if form == "raw" else []  # a flame graph has no room for them
    spy = start_daemon("py-spy", [program, "record", *map(str, given), *files], log=log, ends_with_parent=True)
    setting.stack.callback(end, spy, within_s=WRITES_WITHIN_S)
    wait_until_ready(spy, lambda: "Sampling process" in log.read_text(), within_s=READY_WITHIN_S)
    return spy


def _stop_spy(spy: Daemon, output: Path) -> None:
    """Return when it has written its output."""
    running = is_running(spy)
    end(spy, within_s=WRITES_WITHIN_S, first=signal.SIGINT)
    if not (running and output.exists()):
        raise ToolError(f"py-spy has written nothing: {log_tail(spy.log)}")


def main(rows: Annotated[int, typer.Option(help="Rows of the table.")] = 10_000) -> None:
    """Show where the operator's processor time goes while each row gets an EmbeddingJob."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    BUILD.mkdir(exist_ok=True)
    here = machine()
    typer.echo(
        f"{here['cores']} cores of {here['model']}, load {here['load_before']}, commit {here['commit']}, {rows:,} rows"
    )
    with tempfile.TemporaryDirectory(prefix="eo-bench-") as folder, ExitStack() as stack:
        try:
            shares = profile(Setting(rows, Path(folder), stack, typer.echo))
        except ToolError as exc:
            typer.echo(f"make bench-profile: {exc}", err=True)
            raise typer.Exit(exc.exit_code) from None
    typer.echo(f"\n{shares}\n\nflame graph: {FLAME_GRAPH.relative_to(ROOT)}; stacks: {RAW.relative_to(ROOT)}")


if __name__ == "__main__":
    typer.run(main)
