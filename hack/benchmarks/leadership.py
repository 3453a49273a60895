"""How long no process works after the leader was killed, and after it was told to stop. Called by __main__.py.

Work is an edit that is made at that moment: it has its vector when the standby has taken over.
"""

import os
import signal
from collections.abc import Mapping

from hack.benchmarks.edits import edit_row, latencies
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until
from hack.installation.operator_process import OperatorProcess

ROWS = 100
WITHIN_S = 60.0
STANDS_BY = "standing by"
"""What a process logs that waits for the lease."""


def measure(setting: Setting) -> Mapping[str, float]:
    with operator_system(setting, ROWS) as system:
        first = system.start_operator("first")
        system.apply_source()
        system.wait_until_filled(within_s=WITHIN_S)
        second = system.start_operator("second", until=STANDS_BY)
        takeover_s = _first_vector_after(system, first, signal.SIGKILL, row_id=1)
        system.start_operator("third", until=STANDS_BY)
        handover_s = _first_vector_after(system, second, signal.SIGTERM, row_id=2)
        return {"takeover_s": takeover_s, "handover_s": handover_s}


def _first_vector_after(
    system: OperatorSystem, process: OperatorProcess, number: signal.Signals, *, row_id: int
) -> float:
    """Send the signal, and edit a row. Returns the seconds from then to the row's vector."""
    os.kill(process.daemon.pid, number)
    edited = {row_id: edit_row(system.listings, row_id)}
    wait_until(lambda: bool(latencies(system, edited)), within_s=WITHIN_S, because="the standby works")
    return latencies(system, edited)[0]
