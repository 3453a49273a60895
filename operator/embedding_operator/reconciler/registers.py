"""What all sources share: what the process knows of jobs, what bounds their number, and what else their loops work with."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from embedding_operator.api_server import ApiServer
from embedding_operator.reconciler.backfill_workers import Workers
from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.peeker import PeekedMarks, Peeker
from embedding_operator.reconciler.window import Window
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.clock import Clock

__all__ = ["JobRegisters", "PeekedMarks", "Peeker", "SharedParts", "make_registers"]


@dataclass(frozen=True)
class JobRegisters:
    table: JobTable
    finished: FinishedJobs
    window: Window


@dataclass(frozen=True)
class SharedParts:
    """What the loops of all sources work with."""

    server: ApiServer
    jobs: JobRegisters
    make_workers: Callable[[EmbeddingSource], Workers]
    """For the backfills of a source that asks for worker processes."""
    audit_rows_per_s: float
    may_work: Callable[[], bool]
    """Whether this process leads, and so may begin calls."""
    peeker: Peeker
    clock: Clock
    price_per_million_tokens: float = 0.0
    """Of sources that set none; 0 where it is not known."""


def make_registers(*, max_open: int, max_finished: int, clock: Clock) -> JobRegisters:
    """Empty registers with these bounds."""
    # Begins with a letter: a YAML parser reads 12345e-1, hexadecimal digits with a dash, as a number.
    finished = FinishedJobs(prefix=f"c{secrets.token_hex(3)}")
    table = JobTable(finished, clock=clock)
    window = Window(table, finished, max_open=max_open, max_finished=max_finished, clock=clock)
    return JobRegisters(table, finished, window)
