"""The API server's audit log, one JSON object a line. Called by the tests that count or name requests."""

import json
from pathlib import Path
from typing import Any


def audit_entries(log: Path) -> list[dict[str, Any]]:
    """What is logged so far, in the order in which it was. The last line is left out while it is half written."""
    whole_lines = log.read_text().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in whole_lines]
