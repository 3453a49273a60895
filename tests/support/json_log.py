"""Logs of one JSON object a line, read while they are being written: those of our processes, and the API server's audit log.

Called by tests that look at what a process has logged.
"""

import json
from pathlib import Path
from typing import Any


def json_lines(log: Path) -> list[dict[str, Any]]:
    """What is logged so far, in the order in which it was. The last line is left out while it is half written."""
    whole_lines = log.read_text().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in whole_lines]
