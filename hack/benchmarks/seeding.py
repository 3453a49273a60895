"""How fast all rows of a table become known as due: from the creation of the source to the last change mark of the first audit.

Calls to the provider do not end meanwhile, so that no mark is deleted. Called by __main__.py.
"""

from collections.abc import Mapping

from hack.benchmarks.operator_system import operator_system
from hack.benchmarks.setting import Setting
from hack.benchmarks.slow_provider import NEVER
from hack.benchmarks.waiting import wait_until

WITHIN_S = 300.0
LOOK_EVERY_S = 2.0
"""Rarely, because counting the marks is work too; the result is read from the last of them."""
NOW = "SELECT extract(epoch FROM clock_timestamp())"
IS_THERE = "SELECT count(to_regclass(%s))"
MARKED = "SELECT count(*) FROM {marks}"
LAST_MARK = "SELECT extract(epoch FROM max(since)) FROM {marks}"
"""The beginning of the transaction that added the last page of marks."""


def measure(setting: Setting) -> Mapping[str, float]:
    with operator_system(setting, setting.rows) as system:
        system.start_operator(settings=NEVER)
        listings, marks = system.listings, system.marks
        began = listings.number(NOW)
        system.apply_source(backfill={"mode": "Jobs"})
        wait_until(
            lambda: (
                listings.number(IS_THERE, marks) > 0 and listings.number(MARKED.format(marks=marks)) >= setting.rows
            ),
            within_s=WITHIN_S,
            because="all rows are marked",
            every_s=LOOK_EVERY_S,
        )
        return {"seed_rows_per_s": setting.rows / (listings.number(LAST_MARK.format(marks=marks)) - began)}
