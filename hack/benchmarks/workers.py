"""How much faster three worker processes are than one, at two calls in flight each. Called by __main__.py.

They are started as by hand, `embedding-operator backfill-worker`: no API server is involved.
"""

import asyncio
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from embedding_worker.limits import Limits
from embedding_worker.rows.backfills import BackfillRecords, BackfillSettings
from embedding_worker.rows.database import Database
from hack.benchmarks.errors import Skipped
from hack.benchmarks.listings import Listings
from hack.benchmarks.operator_system import ENDS_WITHIN_S, RATE
from hack.benchmarks.raw_write import mark_all
from hack.benchmarks.setting import Setting
from hack.processes.daemons import Daemon, log_tail, start_daemon, wait_for_exit
from hack.processes.run import run_to_end

CONCURRENCY = 2
SHARE = 20
"""Each worker has so small a part of the rows: with two calls of 200 ms in flight, no more than 1,000 a second are possible."""
SOURCE = "benchmark/businesses"
COMMAND = "backfill-worker"


def measure(setting: Setting) -> Mapping[str, float]:
    program = Path(sys.executable).with_name("embedding-operator")
    if run_to_end([program, COMMAND, "--help"], within_s=30).returncode != 0:
        raise Skipped(f"skipped: there is no command {COMMAND}")
    found = {workers: _rows_per_s(setting, program, workers) for workers in (1, 3)}
    setting.say(f"workers: {', '.join(f'{workers}: {rate:,.0f} rows/s' for workers, rate in found.items())}")
    return {"backfill_3_workers_speedup": found[3] / found[1]}


def _rows_per_s(setting: Setting, program: Path, workers: int) -> float:
    """From the first vector of any of them to the last."""
    listings = Listings(setting.new_database().url)
    listings.create(max(1_000, setting.rows // SHARE) * workers)
    statements = asyncio.run(mark_all(listings))
    asyncio.run(_begin(listings, workers))
    variables = setting.provider | {"DATABASE_URL": listings.url}
    started = [
        start_daemon(
            f"worker {index} of {workers}",
            [program, COMMAND, SOURCE, "--index", str(index)],
            log=setting.folder / f"worker-{index}-of-{workers}.log",
            ends_with_parent=True,
            settings=variables,
        )
        for index in range(workers)
    ]
    for worker in started:
        _wait_for(worker)
    return listings.number(RATE.format(state=statements.state))


async def _begin(listings: Listings, workers: int) -> None:
    settings = BackfillSettings(listings.config, Limits(10_000_000), CONCURRENCY, workers)
    async with Database(listings.url) as database:
        await BackfillRecords(database).begin(secrets.token_hex(4), SOURCE, settings, total=0)


def _wait_for(worker: Daemon) -> None:
    code = wait_for_exit(worker, within_s=ENDS_WITHIN_S)
    assert code == 0, f"{worker.name} ended with {code}: {log_tail(worker.log)}"
