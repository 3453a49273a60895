"""`kubectl embeddings replay`: sets dead letters back to Pending, at a rate that the provider can bear.

Called by app.py. What is replayed, and what a job's phase allows, is decided by pure functions.
"""

import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import typer

from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnreachable, Invalid, Unauthorized
from embedding_operator.resources.embedding_job import FINISHED, Phase
from embedding_worker.clock import Clock
from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.dead_letter_groups import LONG_AGO, Filter, dead_letters
from kubectl_embeddings.failures import DONE, FAILED, NOT_FOUND, NotFound, WrongUse
from kubectl_embeddings.layout import Screen, parsed_duration, printable
from kubectl_embeddings.views import Job, job_of

SECONDS = {"s": 1, "m": 60, "h": 3_600}


@dataclass(frozen=True)
class Selection:
    """Which dead letters; all of these must hold."""

    everything: Annotated[bool, typer.Option("--all", help="All dead letters of the namespace.")] = False
    reason: Annotated[str | None, typer.Option("--reason", help="Those with this reason.")] = None
    source: Annotated[str | None, typer.Option("--source", help="Those of this source.")] = None
    since: Annotated[str | None, typer.Option("--since", help="Those of the last 30m, 2h or 1d.")] = None

    @property
    def given(self) -> bool:
        return self != Selection()


@dataclass(frozen=True)
class Replay:
    """What happened to one job."""

    job: str
    said: str
    code: int = DONE
    already: bool = False
    """It was Pending before."""

    def __str__(self) -> str:
        return f"{'✗' if self.code else '✓'} {self.job}: {' '.join(self.said.split())}"


@dataclass(frozen=True)
class Pace:
    """How the replays follow each other."""

    per_second: float
    dry_run: bool
    clock: Clock


async def show_replay(
    cluster: Requests, names: Sequence[str], selection: Selection, screen: Screen, *, pace: Pace
) -> int:
    """Replay these jobs, and print what happened to each. Raises WrongUse."""
    check_use(names, selection)
    jobs, done = await named(cluster, names)
    if selection.given:
        jobs = await selected(cluster, selection, now=pace.clock.now())
    for replayed in done:
        screen.emit(str(replayed))
    with progress(0 if pace.dry_run else len(jobs), screen.emit) as outcome:
        async for replayed in replays(cluster, jobs, pace):
            outcome(str(replayed))
            done.append(replayed)
    screen.note(counted(done, dry_run=pace.dry_run))
    return exit_code({replayed.code for replayed in done})


def counted(done: Sequence[Replay], *, dry_run: bool) -> str:
    """How many were replayed; those that were Pending before were not, and have not failed."""
    already = sum(replayed.already for replayed in done)
    good = sum(replayed.code == DONE for replayed in done) - already
    was = "is" if dry_run and already == 1 else "are" if dry_run else "was" if already == 1 else "were"
    apart = f", and {already} {was} Pending already" if already else ""
    return f"{good} of {len(done)} {'would be ' if dry_run else ''}replayed{apart}"


def exit_code(codes: Set[int]) -> int:
    """The code of the command: something failed, or else something was not found, or all is done."""
    return next((code for code in (FAILED, NOT_FOUND) if code in codes), DONE)


def check_use(names: Sequence[str], selection: Selection) -> None:
    """Raises WrongUse unless either jobs or a selection are given."""
    if names and selection.given:
        raise WrongUse("name either jobs, or a selection of dead letters with --all, --reason, --source or --since")
    if not names and not selection.given:
        raise WrongUse("name the jobs to replay, or select dead letters with --all, --reason, --source or --since")
    if selection.everything and selection != Selection(everything=True):
        raise WrongUse("--all selects every dead letter: leave out either it or --reason, --source and --since")


async def named(cluster: Requests, names: Sequence[str]) -> tuple[list[Job], list[Replay]]:
    """The jobs of these names, and an outcome for each that does not exist."""
    jobs, missing = [], []
    for name in dict.fromkeys(names):
        try:
            jobs.append(job_of(await cluster.job(name)))
        except NotFound as exc:
            missing.append(Replay(name, str(exc), NOT_FOUND))
    return jobs, missing


async def selected(cluster: Requests, selection: Selection, *, now: datetime) -> list[Job]:
    """The dead letters of this selection, the oldest first."""
    found = await dead_letters(cluster, Filter(selection.source, selection.reason))
    if selection.since is not None:
        since = now - duration_of(selection.since)
        found = [job for job in found if job.completed is not None and job.completed >= since]
    return sorted(found, key=lambda job: (job.completed or LONG_AGO, job.name))


def duration_of(text: str) -> timedelta:
    """Raises WrongUse."""
    try:
        return parsed_duration(text)
    except ValueError as exc:
        raise WrongUse(f"--since: {exc}") from None


def rate(text: str) -> float:
    """Replays a second, from 10/s, 30/m or 100/h; a number alone is for a second. Raises WrongUse."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/([smh]))?", text)
    if found is None or not float(found[1]):
        raise WrongUse(f"--rate: {text!r} is no rate: write 10/s, 30/m or 100/h")
    return float(found[1]) / SECONDS[found[2] or "s"]


async def replays(cluster: Requests, jobs: Sequence[Job], pace: Pace) -> AsyncIterator[Replay]:
    """Replay one job after the other, no more in a second than the pace allows."""
    may_begin = pace.clock.monotonic()
    for job in jobs:
        if (known := foreseen(job, dry_run=pace.dry_run)) is not None:
            yield known
            continue
        if (wait_s := may_begin - pace.clock.monotonic()) > 0:
            await pace.clock.sleep(wait_s)
        may_begin = max(may_begin, pace.clock.monotonic()) + 1 / pace.per_second
        yield await replay(cluster, job)


def foreseen(job: Job, *, dry_run: bool) -> Replay | None:
    """The outcome that needs no request; None where the job has to be patched."""
    if job.phase in FINISHED:
        return Replay(
            job.name, f"its phase is {job.phase}, which is final: edit the row, and it gets a new job", FAILED
        )
    if job.phase == Phase.PENDING:
        return Replay(job.name, "it is Pending already", already=True)
    return Replay(job.name, f"would be replayed ({job.phase}, {job.reason})") if dry_run else None


async def replay(cluster: Requests, job: Job) -> Replay:
    """Raises RequestRefused, ApiServerUnreachable or Unauthorized where no other job could be replayed either."""
    try:
        await cluster.set_phase(job.name, Phase.PENDING)
    except NotFound:
        return Replay(job.name, "it was deleted meanwhile", NOT_FOUND)
    except (ApiServerUnreachable, Unauthorized):
        raise
    except (Invalid, ApiServerUnavailable) as exc:
        return Replay(job.name, str(exc), FAILED)
    return Replay(job.name, f"replayed, after {job.reason or job.phase}")


@contextmanager
def progress(total: int, emit: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """A progress bar in the terminal, where there is one and anything to wait for. Gives what prints an outcome, and moves it on.

    Where the outcomes go to the same terminal, they are printed above the bar.
    """
    if total < 2 or not sys.stderr.isatty():
        yield emit
        return
    from rich.console import Console
    from rich.progress import Progress

    together = sys.stdout.isatty()
    console = Console(stderr=not together)
    with Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("replaying", total=total)

        def outcome(line: str) -> None:
            if together:
                console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
            else:
                emit(line)
            bar.advance(task)

        yield outcome
