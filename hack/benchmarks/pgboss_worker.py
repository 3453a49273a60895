"""How many rows a second a worker on pg-boss embeds, with the same table, the same latency and a conditional update.

pg-boss is the job queue that such a worker usually has. The worker is pgboss/worker.mjs, one process, as the backfill is: tuned,
and as the README of pg-boss runs it. Called by __main__.py. Skipped where Node.js or its packages cannot be installed.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from hack.benchmarks.errors import Skipped
from hack.benchmarks.listings import Listings
from hack.benchmarks.node_programs import node_and_worker
from hack.benchmarks.setting import Setting
from hack.processes.run import run_to_end

CONCURRENCY = (4, 8, 16, 32)
"""Batches at once. The best counts."""
SHARE = 10
"""Each setting has a tenth of the rows: it is much slower than the backfill."""
WITHIN_S = 600
README_ROWS_SENT = 3_000
README_ROWS = 10
"""A worker with the default options takes one job each two seconds."""


def measure(setting: Setting) -> Mapping[str, float]:
    node, worker = node_and_worker()
    rows = max(1_000, setting.rows // SHARE)
    listings = Listings(setting.new_database().url)
    listings.create(rows * len(CONCURRENCY))
    best = 0.0
    for number, concurrency in enumerate(CONCURRENCY):
        queue = f"embed-{concurrency}"
        _run(node, worker, "seed", listings.url, queue, rows, 1 + number * rows)
        took_s = float(_run(node, worker, "work", listings.url, queue, rows, concurrency))
        setting.say(f"pg-boss, batches at once: {concurrency}, rows/s: {rows / took_s:,.0f}")
        best = max(best, rows / took_s)
    empty = listings.number(f"SELECT count(*) FROM public.{listings.name} WHERE embedding IS NULL")
    assert empty == 0, "it has embedded every row"
    return {"pgboss_tuned_rows_per_s": best}


def measure_as_readme(setting: Setting) -> Mapping[str, float]:
    """With `send` for each row, one after the other, and `work` without options."""
    node, worker = node_and_worker()
    listings = Listings(setting.new_database().url)
    listings.create(README_ROWS)
    sent_s = float(_run(node, worker, "readme-seed", listings.url, "sent", README_ROWS_SENT, 1))
    _run(node, worker, "readme-seed", listings.url, "embedded", README_ROWS, 1)
    took_s = float(_run(node, worker, "readme-work", listings.url, "embedded", README_ROWS, 1))
    empty = listings.number(f"SELECT count(*) FROM public.{listings.name} WHERE embedding IS NULL")
    assert empty == 0, "it has embedded every row"
    return {
        "pgboss_readme_seed_rows_per_s": README_ROWS_SENT / sent_s,
        "pgboss_readme_rows_per_s": README_ROWS / took_s,
    }


def _run(node: Path, worker: Path, *arguments: object) -> str:
    try:
        done = run_to_end([node, worker, *map(str, arguments)], within_s=WITHIN_S)
    except subprocess.TimeoutExpired:
        raise Skipped(f"skipped: the worker on pg-boss took longer than {WITHIN_S} s") from None
    if done.returncode != 0:
        raise Skipped(f"skipped: the worker on pg-boss failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
