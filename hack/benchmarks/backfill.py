"""The first fill of a table by a backfill, through an operator as a process: speed, requests to the API server, memory.

The first audit has marked all rows before, as for the raw write. Called by __main__.py.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from hack.benchmarks.api_requests import requests_so_far
from hack.benchmarks.memory import memory_mb
from hack.benchmarks.operator_system import operator_system
from hack.benchmarks.raw_write import mark_all
from hack.benchmarks.setting import Setting

CONCURRENCY = 32


def auto(concurrency: int = CONCURRENCY) -> dict[str, object]:
    return {"mode": "Auto", "threshold": 1_000, "concurrency": concurrency}


def measure(setting: Setting) -> Mapping[str, float]:
    with operator_system(setting, setting.rows) as system:
        asyncio.run(mark_all(system.as_operator))
        operator = system.start_operator()
        before = requests_so_far(system.kubectl)
        system.apply_source(backfill=auto())
        system.wait_for_backfill()
        requests = requests_so_far(system.kubectl) - before
        empty = system.listings.number(f"SELECT count(*) FROM public.{system.listings.name} WHERE embedding IS NULL")
        assert empty == 0, "the backfill has embedded every row"
        return {
            "backfill_rows_per_s": system.rows_per_s(),
            "backfill_api_requests": requests,
            "rss_mb_backfill": memory_mb(Path(f"/proc/{operator.daemon.pid}/status").read_text(), "VmHWM"),
        }
