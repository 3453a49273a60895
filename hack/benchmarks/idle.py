"""What an operator costs while there is nothing to do: one source, 10,000 fresh rows, one minute. Called by __main__.py.

The minute begins some seconds after the source has become fresh, by a first audit that was complete before. The later passes of
the audit go on all the while, as they do where it is installed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.benchmarks.errors import Skipped
from hack.benchmarks.memory import memory_mb
from hack.benchmarks.operator_system import operator_system
from hack.benchmarks.processor_time import Processes, Spent, postmaster_of
from hack.benchmarks.raw_write import fill
from hack.benchmarks.setting import Setting
from hack.benchmarks.slow_provider import AT_ONCE
from hack.benchmarks.statement_log import log_statements

ROWS = 10_000
MINUTE_S = 60.0
SOURCES = 50
ROWS_OF_A_SMALL_TABLE = 100
TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
JOBS = {"mode": "Jobs"}
NO_LOG = "skipped: the log of this PostgreSQL is not readable here"


@dataclass(frozen=True)
class Idle:
    """What was counted, each in a minute."""

    statements: float | None
    """None where PostgreSQL's log is not readable here."""
    transactions: float
    """Also the few of PostgreSQL's own processes in this database."""
    cpu_percent: float
    """Of one core."""
    rss_mb: float
    """At the end."""


def measure(setting: Setting) -> Mapping[str, float]:
    """Raises Skipped with all but the statements, where these cannot be counted."""
    found = counted(setting)
    others = {
        "idle_transactions_per_min": found.transactions,
        "idle_cpu_percent": found.cpu_percent,
        "rss_mb_start": found.rss_mb,
    }
    return with_statements(found, others)


def measure_counts(setting: Setting) -> Mapping[str, float]:
    """What is a count, in a whole minute too: each has a burst of statements. Raises Skipped as `measure` does."""
    found = counted(setting)
    return with_statements(found, {"idle_transactions_per_min": found.transactions})


def with_statements(idle: Idle, others: Mapping[str, float]) -> Mapping[str, float]:
    if idle.statements is None:
        raise Skipped(NO_LOG, others)
    return {"idle_statements_per_min": idle.statements, **others}


def counted(setting: Setting) -> Idle:
    with operator_system(setting, ROWS) as system:
        fill(system.as_operator)
        log = log_statements(system)
        operator = system.start_operator(settings=AT_ONCE)
        system.apply_source(backfill=JOBS)
        system.wait_until_calm()
        processes = Processes(operator.daemon.pid, (), None)
        began, position = time.monotonic(), len(log) if log is not None else 0
        transactions, spent = system.listings.number(TRANSACTIONS), processes.spent()
        time.sleep(MINUTE_S)
        minutes = (time.monotonic() - began) / MINUTE_S
        return Idle(
            log.statements_since(position) / minutes if log is not None else None,
            (system.listings.number(TRANSACTIONS) - transactions) / minutes,
            100 * processes.spent().since(spent).operator / (minutes * MINUTE_S),
            memory_mb(Path(f"/proc/{operator.daemon.pid}/status").read_text(), "VmRSS"),
        )


def measure_sources(setting: Setting) -> Mapping[str, float]:
    """The same process with one source, and then with 50, each with a small table of its own in one database."""
    with operator_system(setting, ROWS_OF_A_SMALL_TABLE) as system:
        fill(system.as_operator)
        operator = system.start_operator(settings=AT_ONCE)
        system.apply_source(backfill=JOBS)
        system.wait_until_calm()
        processes = Processes(operator.daemon.pid, (), postmaster_of(system.listings.url))
        one = _spent_in_a_minute(processes)
        for number in range(1, SOURCES):
            another = system.with_table(f"businesses{number}", ROWS_OF_A_SMALL_TABLE)
            fill(another.as_operator)
            another.apply_source(backfill=JOBS)
        system.wait_until_calm()
        all_of_them = _spent_in_a_minute(processes)
    for sources, spent in ((1, one), (SOURCES, all_of_them)):
        setting.say(
            f"idle sources: {sources}, a minute: operator {spent.operator:.2f} s, database {spent.database:.2f} s"
        )
    return {
        "sources_50_idle_cpu_ratio": all_of_them.operator / one.operator,
        "sources_50_idle_database_cpu_ratio": all_of_them.database / one.database,
    }


def _spent_in_a_minute(processes: Processes) -> Spent:
    before = processes.spent()
    time.sleep(MINUTE_S)
    return processes.spent().since(before)
