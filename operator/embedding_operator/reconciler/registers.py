"""What the process knows of jobs, and what bounds their number: one set of registers, shared by all sources."""

import secrets
from dataclasses import dataclass

from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.window import Window
from embedding_worker.clock import Clock


@dataclass(frozen=True)
class JobRegisters:
    table: JobTable
    finished: FinishedJobs
    window: Window


def make_registers(*, max_open: int, max_finished: int, clock: Clock) -> JobRegisters:
    """Empty registers with these bounds."""
    # Begins with a letter: a YAML parser reads 12345e-1, hexadecimal digits with a dash, as a number.
    finished = FinishedJobs(prefix=f"c{secrets.token_hex(3)}")
    table = JobTable(finished, clock=clock)
    window = Window(table, finished, max_open=max_open, max_finished=max_finished, clock=clock)
    return JobRegisters(table, finished, window)
