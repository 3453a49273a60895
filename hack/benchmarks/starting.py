"""What the start of the process costs until it is ready, and how soon it works on after it was killed. Called by __main__.py.

The provider answers at once.
"""

import asyncio
import json
import statistics
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from embedding_operator.resources.embedding_job import job_name
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.processor_time import Processes
from hack.benchmarks.raw_write import fill, mark_all
from hack.benchmarks.setting import Setting
from hack.benchmarks.slow_provider import AT_ONCE, NEVER
from hack.benchmarks.waiting import wait_until

ROWS = 1_000
STARTS = 3
OPEN = 500
LISTENS = "http server up"
LOOK_EVERY_S = 0.05
WITHIN_S = 60.0
NOW = "SELECT extract(epoch FROM clock_timestamp())"
FIRST_VECTOR = "SELECT extract(epoch FROM min(embedded_at)) FROM {state}"
TEXTS = "SELECT id::text, encode(sha256(convert_to({text}, 'UTF8')), 'hex') FROM public.{table} ORDER BY id"


def measure(setting: Setting) -> Mapping[str, float]:
    """The median of three starts, one after the other, with one source whose rows are fresh."""
    with operator_system(setting, ROWS) as system:
        fill(system.as_operator)
        system.apply_source()
        spent_s = [_start_and_stop(system, f"start-{number}") for number in range(STARTS)]
        setting.say(f"processor time of the starts, s: {', '.join(f'{each:.2f}' for each in spent_s)}")
        return {"start_cpu_s": statistics.median(spent_s)}


def _start_and_stop(system: OperatorSystem, name: str) -> float:
    operator = system.start_operator(name, until=LISTENS, settings=AT_ONCE)
    url = f"{operator.http_url}/readyz"
    wait_until(lambda: answers(url), within_s=WITHIN_S, because="/readyz answers 200", every_s=LOOK_EVERY_S)
    spent_s = Processes(operator.daemon.pid, (), None).spent().operator
    operator.stop()
    return spent_s


def answers(url: str) -> bool:
    """Whether it answers with 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # none is used for an address of this machine
    try:
        with opener.open(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def measure_restart(setting: Setting) -> Mapping[str, float]:
    """From the start of the process to its first vector, with 500 open jobs, after the one before was killed.

    It has the same identity, as a container that is started again in its pod, so it need not wait until the Lease expires.
    """
    with operator_system(setting, 2 * OPEN) as system:
        asyncio.run(mark_all(system.as_operator))
        before = system.start_operator(settings=NEVER)
        system.apply_source(backfill={"mode": "Jobs"})
        wait_until(lambda: len(system.jobs()) >= OPEN // 5, within_s=WITHIN_S, because="it has created jobs")
        before.kill()
        open_the_rest(system)
        first = FIRST_VECTOR.format(state=system.state)
        began = system.listings.number(NOW)
        system.start_operator(settings=AT_ONCE)
        ready_s = system.listings.number(NOW) - began
        wait_until(lambda: system.listings.number(first) > 0, within_s=WITHIN_S, because="the first job is done")
        took_s = system.listings.number(first) - began
    setting.say(f"with {OPEN} open jobs: ready after {ready_s:.1f} s, the first vector after {took_s:.1f} s")
    return {"restart_s_500_open": took_s}


def open_the_rest(system: OperatorSystem) -> None:
    """Create further jobs, until 500 are open: an operator opens fewer while no call ends (reconciler/window.py)."""
    present = system.jobs()
    pattern, taken = present[0], {job["spec"]["businessId"] for job in present}
    texts = system.listings.run(TEXTS.format(table=system.listings.name, text=system.listings.text))
    others = [job_like(pattern, row_id, content_hash) for row_id, content_hash in texts if row_id not in taken]
    missing = {"apiVersion": "v1", "kind": "List", "items": others[: OPEN - len(present)]}
    system.kubectl.run("create", "-f", "-", stdin=json.dumps(missing), within_s=WITHIN_S)
    assert len(system.jobs()) == OPEN


def job_like(job: Mapping[str, Any], business_id: str, content_hash: str) -> dict[str, Any]:
    """The job of another row of the same source, as the operator creates it."""
    spec = {**job["spec"], "businessId": business_id, "contentHash": content_hash}
    name = job_name(
        source=spec["sourceRef"]["name"],
        business_id=business_id,
        content_hash=content_hash,
        fingerprint=spec["fingerprint"],
    )
    metadata = {"name": name, "labels": job["metadata"]["labels"]}
    return {"apiVersion": job["apiVersion"], "kind": job["kind"], "metadata": metadata, "spec": spec}
