"""What the operator's trigger adds to an application's update of one row. Called by __main__.py.

With the code of trigger_cost.py, which compares all forms that a trigger may have: the form of the operator and none take turns
on the same table, and the median of the differences of all pairs counts.
"""

import statistics
from collections.abc import Mapping

import psycopg

from hack.benchmarks.setting import Setting
from hack.benchmarks.trigger_cost import EDIT_OF_TEXT, create_table
from hack.benchmarks.trigger_cost import measure as measure_forms

ROWS = 10_000
ROUNDS = 15
NONE, OURS = "none", "checked"


def measure(setting: Setting) -> Mapping[str, float]:
    with psycopg.connect(setting.new_database().url, autocommit=True) as connection:
        create_table(connection, ROWS, hnsw=False)
        found = measure_forms(connection, rows=ROWS, bulk=1, rounds=ROUNDS, only=(NONE, OURS), timed=(EDIT_OF_TEXT,))[
            EDIT_OF_TEXT
        ]
    setting.say(f"an update of one row: {statistics.median(found[NONE]):.3f} ms without the trigger")
    return {"trigger_ms": statistics.median(map(float.__sub__, found[OURS], found[NONE]))}
