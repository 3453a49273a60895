"""How much slower an application's inserts become while the operator fills the same table, with a job for each row.

They are compared with the same inserts beside two processes that only burn processor time, because on a small machine anything
that runs makes them slower. The two phases take turns. In the phases of the burners the source is suspended.
Called by __main__.py.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from hack.benchmarks.edits import percentile
from hack.benchmarks.listings import Listings
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until
from hack.processes.daemons import end, start_daemon

TURNS = 4
"""Of each phase."""
INSERTS = 600
"""In each turn."""
EVERY_S = 0.01
BURNERS = 2
WITHIN_S = 60.0
QUIET_FOR_S = 2.0
JOBS = {"mode": "Jobs"}
INSERT = "INSERT INTO public.{table} (name, description, phone) VALUES (%s, 'what it offers', '+1-555-0')"
OF_FIRST_FILL = "SELECT count(*) FROM (SELECT FROM public.{table} WHERE embedding IS NULL AND id <= %s LIMIT 1) r"
"""Whether any of the rows that were there at first is empty. The inserted ones have larger ids."""
WITH_VECTOR = "SELECT count(*) FROM public.{table} WHERE embedding IS NOT NULL"
MS = 1_000


def measure(setting: Setting) -> Mapping[str, float]:
    rows = max(10_000, setting.rows // 10)
    busy_ms: list[float] = []
    burners_ms: list[float] = []
    with operator_system(setting, rows) as system:
        system.start_operator()
        for _ in range(TURNS):
            work(system)
            busy_ms += insert(system.listings)
            assert is_filling(system.listings, rows), "the first fill goes on: more rows are needed"
            suspend(system)
            with burners(setting.folder):
                burners_ms += insert(system.listings)
    setting.say(
        f"{len(busy_ms)} inserts each, median, ms: {percentile(busy_ms, 50):.2f} busy, "
        f"{percentile(burners_ms, 50):.2f} beside burners"
    )
    return {"insert_p99_ms_busy": percentile(busy_ms, 99), "insert_p99_ms_burners": percentile(burners_ms, 99)}


def is_filling(listings: Listings, rows: int) -> bool:
    """Whether any of so many first rows has no vector yet, whatever was inserted since."""
    return listings.number(OF_FIRST_FILL.format(table=listings.name), rows) > 0


def work(system: OperatorSystem) -> None:
    """Have the operator embed rows, and return when it does."""
    done = WITH_VECTOR.format(table=system.listings.name)
    before = system.listings.number(done)
    system.apply_source(backfill=JOBS, suspend=False)
    wait_until(lambda: system.listings.number(done) > before, within_s=WITHIN_S, because="the operator works")


def suspend(system: OperatorSystem) -> None:
    """Have it stop, and return when no more vectors are written."""
    system.apply_source(backfill=JOBS, suspend=True)
    done = WITH_VECTOR.format(table=system.listings.name)
    seen = [system.listings.number(done)]

    def is_quiet() -> bool:
        seen.append(system.listings.number(done))
        return seen[-1] == seen[-2]

    wait_until(is_quiet, within_s=WITHIN_S, because="the operator is suspended", every_s=QUIET_FOR_S)


def insert(listings: Listings) -> list[float]:
    """Insert single rows over one connection, each in a transaction of its own. Returns the milliseconds of each.

    They begin at a fixed pace, or at once where the one before took longer than that.
    """
    taken: list[float] = []
    statement = INSERT.format(table=listings.name).encode()
    with psycopg.connect(listings.url, autocommit=True) as connection:
        start = time.monotonic()
        for number in range(INSERTS):
            time.sleep(max(0.0, start + number * EVERY_S - time.monotonic()))
            began = time.perf_counter()
            connection.execute(statement, (f"new business {number}",))
            taken.append(MS * (time.perf_counter() - began))
    return taken


@contextmanager
def burners(folder: Path) -> Iterator[None]:
    """Processes that each burn the time of one core, until the context ends."""
    with ExitStack() as stack:
        for number in range(BURNERS):
            daemon = start_daemon(
                f"burner {number}",
                [sys.executable, Path(__file__).with_name("burner.py")],
                log=folder / f"burner-{number}.log",
                ends_with_parent=True,
            )
            stack.callback(end, daemon, within_s=5)
        yield
