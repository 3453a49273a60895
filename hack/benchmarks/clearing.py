"""How fast the marks of rows are deleted whose text came out unchanged, after an edit of all rows. Called by __main__.py."""

import time
from collections.abc import Mapping
from contextlib import suppress

from hack.benchmarks.operator_system import operator_system
from hack.benchmarks.raw_write import BATCH, fill
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until
from hack.errors import ToolError

LONGEST_S = 60.0


def measure(setting: Setting) -> Mapping[str, float]:
    """From the first mark that is deleted to the last. The operator runs all the while."""
    rows = max(BATCH, setting.rows // BATCH * BATCH)
    with operator_system(setting, rows) as system:
        listings = system.listings
        statements = fill(system.as_operator)
        system.start_operator()
        system.apply_source(backfill={"mode": "Auto"})
        triggers = f"SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.{listings.name}'::regclass"
        wait_until(lambda: listings.number(triggers) == 2, within_s=60, because="the operator has created the triggers")
        listings.run(f"UPDATE public.{listings.name} SET name = upper(name)")
        marked, oldest = listings.run(f"SELECT count(*), min(seq) FROM {statements.marks}")[0]
        assert isinstance(marked, int)
        assert marked > rows / 2, "the edit has marked the rows"
        is_untouched = f"SELECT count(*) FROM {statements.marks} WHERE seq = {oldest}"
        wait_until(
            lambda: listings.number(is_untouched) == 0, within_s=60, because="the operator has begun", every_s=0.02
        )
        began = time.monotonic()
        any_left = f"SELECT count(*) FROM (SELECT FROM {statements.marks} LIMIT 1) m"
        with suppress(ToolError):  # then it is slow, and what it has done so far counts
            wait_until(
                lambda: listings.number(any_left) == 0, within_s=LONGEST_S, because="no mark is left", every_s=0.05
            )
        took_s = time.monotonic() - began
        left = f"SELECT count(*) FROM (SELECT DISTINCT id FROM {statements.marks}) m"
        return {"unchanged_marks_cleared_per_s": (marked - listings.number(left)) / took_s}
