"""How long no process works after the leader was killed, and after it was told to stop. Called by __main__.py.

Work is an edit that is made at that moment: it has its vector when the standby has taken over.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping

from hack.benchmarks.edits import edit_row, latencies
from hack.benchmarks.errors import Skipped
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until

ROWS = 100
WITHIN_S = 60.0


def measure(setting: Setting) -> Mapping[str, float]:
    with operator_system(setting, ROWS) as system:
        first = system.start_operator("first")
        system.apply_source()
        _wait_until_filled(system)
        if not system.kubectl.get("leases")["items"]:
            raise Skipped("skipped: this operator has no leader election")
        second = system.start_operator("second")
        takeover_s = _first_vector_after(system, lambda: os.kill(first.daemon.pid, signal.SIGKILL), row_id=1)
        system.start_operator("third")
        time.sleep(2)  # so that it has asked for the lease
        handover_s = _first_vector_after(system, lambda: os.kill(second.daemon.pid, signal.SIGTERM), row_id=2)
        return {"takeover_s": takeover_s, "handover_s": handover_s}


def _wait_until_filled(system: OperatorSystem) -> None:
    empty = f"SELECT count(*) FROM public.{system.listings.name} WHERE embedding IS NULL"
    wait_until(lambda: system.listings.number(empty) == 0, within_s=WITHIN_S, because="all rows have vectors")


def _first_vector_after(system: OperatorSystem, end: Callable[[], None], *, row_id: int) -> float:
    """Edit a row once the process was told to end. Returns the seconds from then to the row's vector."""
    end()
    edited = {row_id: edit_row(system.listings, row_id)}
    wait_until(lambda: bool(latencies(system, edited)), within_s=WITHIN_S, because="the standby works")
    return latencies(system, edited)[0]
