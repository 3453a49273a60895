"""Logs of one JSON object a line, read while they are being written: those of our processes, and the API server's audit log.

Called by tests that look at what a process has logged.
"""

import json
from pathlib import Path
from typing import Any

from hack.processes.daemons import whole_lines


def json_lines(log: Path) -> list[dict[str, Any]]:
    """What is logged so far, in the order in which it was."""
    return [json.loads(line) for line in whole_lines(log)]
