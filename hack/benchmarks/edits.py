"""How long an edit waits for its vector while the rest of the table is embedded: by a backfill, or with a job for each row.

Latencies are from the statement of the edit, which is a transaction of its own, to the beginning of the transaction that writes
the vector (`embedded_at`), by PostgreSQL's clock: some milliseconds too short. Called by __main__.py.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence

from hack.benchmarks.backfill import auto
from hack.benchmarks.listings import Listings
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until

EDITS_EVERY_S = 0.02
EDITS_BEHIND_JOBS_EVERY_S = 0.2
"""A small part of what the jobs do meanwhile."""
LEAST_EDITS = 100
"""A 99th percentile says nothing about fewer."""
SHARE = 2
"""A half of the rows is enough."""
SHARE_IN_JOBS = 10
WITHIN_S = 60.0
EDIT = (
    "UPDATE public.{table} SET name = name || ' (edited)' WHERE id = %s RETURNING extract(epoch FROM clock_timestamp())"
)
LATENCIES = """
SELECT extract(epoch FROM s.embedded_at)::float8 - e.at FROM unnest(%s::bigint[], %s::float8[]) e(id, at)
JOIN {state} s USING (id) JOIN public.{table} t USING (id)
WHERE s.content_hash = encode(sha256(convert_to({text}, 'UTF8')), 'hex')"""


def measure(setting: Setting) -> Mapping[str, float]:
    """During a backfill."""
    rows = max(1_000, setting.rows // SHARE)
    with operator_system(setting, rows) as system:
        system.start_operator()
        system.apply_source(backfill=auto())
        wait_for_first_vector(system)
        edited = edit_until(system.is_backfill_over, system.listings, rows, every_s=EDITS_EVERY_S)
        found = all_latencies(system, edited)
        setting.say(f"{len(found)} edits during a backfill, median: {percentile(found, 50):.2f} s")
        return {"edit_during_backfill_p99_s": percentile(found, 99)}


def measure_behind_jobs(setting: Setting) -> Mapping[str, float]:
    """During a first fill in which each row has a job of its own."""
    rows = max(4_000, setting.rows // SHARE_IN_JOBS)
    with operator_system(setting, rows) as system:
        system.start_operator()
        system.apply_source(backfill={"mode": "Jobs"})
        wait_for_first_vector(system)
        edited = edit_until(system.is_filled, system.listings, rows, every_s=EDITS_BEHIND_JOBS_EVERY_S)
        found = all_latencies(system, edited)
        setting.say(f"{len(found)} edits among {rows:,} jobs, median: {percentile(found, 50):.2f} s")
        return {"edit_behind_backfill_p99_s": percentile(found, 99)}


def wait_for_first_vector(system: OperatorSystem) -> None:
    begun = f"SELECT count(*) FROM public.{system.listings.name} WHERE embedding IS NOT NULL"
    wait_until(lambda: system.listings.number(begun) > 0, within_s=WITHIN_S, because="the first row has its vector")


def edit_until(is_over: Callable[[], bool], listings: Listings, rows: int, *, every_s: float) -> dict[int, float]:
    """Edit a row from time to time until that is so. Returns when each row was edited."""
    ids = iter(random.Random(1).sample(range(1, rows + 1), rows))  # noqa: S311  # no secret depends on it
    edited: dict[int, float] = {}
    while not is_over() and (row_id := next(ids, None)) is not None:
        edited[row_id] = edit_row(listings, row_id)
        time.sleep(every_s)
    assert len(edited) >= LEAST_EDITS, f"{len(edited)} edits only: more rows are needed"
    return edited


def all_latencies(system: OperatorSystem, edited: Mapping[int, float]) -> list[float]:
    """As soon as all edits have their vectors."""
    wait_until(
        lambda: len(latencies(system, edited)) == len(edited), within_s=WITHIN_S, because="all edits have vectors"
    )
    return latencies(system, edited)


def edit_row(listings: Listings, row_id: int) -> float:
    """Change the text of a row. Returns when, by the database's clock, in seconds since 1970."""
    return listings.number(EDIT.format(table=listings.name), row_id)


def latencies(system: OperatorSystem, edited: Mapping[int, float]) -> list[float]:
    """From each edit to its vector, for those that have one."""
    listings = system.listings
    sql = LATENCIES.format(state=system.state, table=listings.name, text=listings.text)
    return [float(row[0]) for row in listings.run(sql, list(edited), list(edited.values()))]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
