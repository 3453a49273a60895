"""How long an edit waits for its vector while a backfill uses the provider and the database. Called by __main__.py."""

import math
import random
import time
from collections.abc import Mapping, Sequence

from hack.benchmarks.backfill import auto
from hack.benchmarks.listings import Listings
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until

EDITS_EVERY_S = 0.02
LEAST_EDITS = 100
"""A 99th percentile says nothing about fewer."""
SHARE = 2
"""A half of the rows is enough."""
EDIT = (
    "UPDATE public.{table} SET name = name || ' (edited)' WHERE id = %s RETURNING extract(epoch FROM clock_timestamp())"
)
LATENCIES = """
SELECT extract(epoch FROM s.embedded_at)::float8 - e.at FROM unnest(%s::bigint[], %s::float8[]) e(id, at)
JOIN {state} s USING (id) JOIN public.{table} t USING (id)
WHERE s.content_hash = encode(sha256(convert_to({text}, 'UTF8')), 'hex')"""


def measure(setting: Setting) -> Mapping[str, float]:
    rows = max(1_000, setting.rows // SHARE)
    with operator_system(setting, rows) as system:
        system.start_operator()
        system.apply_source(backfill=auto())
        begun = f"SELECT count(*) FROM public.{system.listings.name} WHERE embedding IS NOT NULL"
        wait_until(lambda: system.listings.number(begun) > 0, within_s=60, because="the backfill begins")
        edited = edit_until_over(system, rows)
        wait_until(lambda: len(latencies(system, edited)) == len(edited), within_s=60, because="all edits have vectors")
        found = latencies(system, edited)
        setting.say(f"{len(found)} edits during a backfill, median: {percentile(found, 50):.2f} s")
        return {"edit_during_backfill_p99_s": percentile(found, 99)}


def edit_until_over(system: OperatorSystem, rows: int) -> dict[int, float]:
    """Edit a row from time to time until the backfill is over. Returns when each row was edited."""
    ids = iter(random.Random(1).sample(range(1, rows + 1), rows))  # noqa: S311  # no secret depends on it
    edited: dict[int, float] = {}
    while not system.is_backfill_over() and (row_id := next(ids, None)) is not None:
        edited[row_id] = edit_row(system.listings, row_id)
        time.sleep(EDITS_EVERY_S)
    assert len(edited) >= LEAST_EDITS, f"{len(edited)} edits only: more rows are needed"
    return edited


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
