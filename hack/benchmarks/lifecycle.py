"""What a job costs and how many there are a second, beside a raw life: a client that only creates, patches and deletes jobs.

It sends three requests for each job. The operator sends two, and deletes many jobs with one.

Every row gets an EmbeddingJob, without a backfill, through an operator as a process. The first audit has marked all rows before.
The raw lives run before and after it, and both count. Called by __main__.py.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.benchmarks.api_requests import job_writes_so_far
from hack.benchmarks.memory import memory_mb
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.processor_time import Processes, Spent, api_server_of, postmaster_of
from hack.benchmarks.raw_write import mark_all
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until
from hack.errors import ToolError
from hack.processes.run import run_to_end
from hack.repository import ROOT

SHARE = 2
"""A half of the rows: 100,000 of 200,000."""
WARM_SHARE = 10
"""The first tenth is not counted: the window and the connections are growing, and modules are imported."""
RAW_LIVES = 4_000
WITHIN_S = 1_800.0
LOOK_EVERY_S = 1.0
MS = 1_000


@dataclass(frozen=True)
class Seen:
    """What was counted at one moment."""

    at: float
    """By the monotonic clock."""
    jobs: float
    """How many rows have their vector."""
    spent: Spent
    requests: float
    """Writes of jobs and of their statuses, to the API server."""
    rss_mb: float


@dataclass(frozen=True)
class RawLives:
    lives_per_s: float
    ms_per_life: float
    """Processor time of the client, the API server and etcd."""


def measure(setting: Setting) -> Mapping[str, float]:
    rows = max(2_000, setting.rows // SHARE)
    with operator_system(setting, rows) as system:
        asyncio.run(mark_all(system.as_operator))
        servers = Processes(None, api_server_of(setting.cluster), None)
        first = _raw_lives(system, servers)
        operator = system.start_operator(settings={"EMBEDDING_LOG_LEVEL": "info"})
        all_processes = Processes(operator.daemon.pid, servers.api_server, postmaster_of(system.listings.url))
        system.apply_source(backfill={"mode": "Jobs"})
        begun = _see_when(system, all_processes, rows // WARM_SHARE)
        ended = _see_when(system, all_processes, rows)
        operator.stop()
        second = _raw_lives(system, servers)
    raw_ms, raw_per_s = (first.ms_per_life + second.ms_per_life) / 2, (first.lives_per_s + second.lives_per_s) / 2
    jobs, spent = ended.jobs - begun.jobs, ended.spent.since(begun.spent)
    per_s = jobs / (ended.at - begun.at)
    for who, seconds in (("operator", spent.operator), ("API server", spent.api_server), ("database", spent.database)):
        setting.say(f"a job costs: {who} {MS * seconds / jobs:.2f} ms")
    setting.say(f"jobs/s: {per_s:.0f}; raw lives/s: {raw_per_s:.0f}, {raw_ms:.2f} ms each")
    return {
        "raw_life_cpu_ms": raw_ms,
        "job_cpu_ms": MS * spent.total / jobs,
        "raw_lives_per_s": raw_per_s,
        "jobs_per_s": per_s,
        "operator_cpu_ms_per_job": MS * spent.operator / jobs,
        "api_requests_per_job": (ended.requests - begun.requests) / jobs,
        "rss_growth_100k": ended.rss_mb / begun.rss_mb,
    }


def _see_when(system: OperatorSystem, processes: Processes, jobs: int) -> Seen:
    """What is counted as soon as so many rows have their vector."""
    number = f"SELECT count(*) FROM {system.state} WHERE vector_hash IS NOT NULL"
    wait_until(
        lambda: system.listings.number(number) >= jobs,
        within_s=WITHIN_S,
        because=f"{jobs:,} rows have vectors",
        every_s=LOOK_EVERY_S,
    )
    now, done, spent = time.monotonic(), system.listings.number(number), processes.spent()
    assert processes.operator is not None, "it runs"
    status = Path(f"/proc/{processes.operator}/status").read_text()
    return Seen(now, done, spent, job_writes_so_far(system.kubectl), memory_mb(status, "VmRSS"))


def _raw_lives(system: OperatorSystem, servers: Processes) -> RawLives:
    before = servers.spent()
    command = [sys.executable, "-m", "hack.benchmarks.raw_lives"]
    given = [system.kubeconfig, system.kubectl.namespace, RAW_LIVES]
    done = run_to_end([*command, *map(str, given)], within_s=WITHIN_S, settings={"PYTHONPATH": str(ROOT)})
    if done.returncode != 0:
        raise ToolError(f"the raw client failed: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout)
    spent_s = found["processor_s"] + servers.spent().since(before).total
    return RawLives(found["lives_per_s"], MS * spent_s / RAW_LIVES)
