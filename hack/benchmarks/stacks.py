"""Which part of the code the samples of a profile belong to. Pure.

A sample is a stack of frames, from the outermost to the innermost. It belongs to the part that the innermost frame is in which
belongs to any: what the standard library does, such as json, counts towards the part that calls it. Called by job_profile.py.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

PARTS: Mapping[str, str] = {
    "kopf and the handlers": r"/site-packages/kopf/|/embedding_operator/handlers/",
    "API server: requests, HTTP, TLS": (
        r"/embedding_operator/(api_server|api_errors|api_access/\w+)\.py|/asyncio/sslproto\.py|/ssl\.py"
        r"|/site-packages/(aiohttp|aiohappyeyeballs|yarl|multidict|propcache|frozenlist)/"
    ),
    "PostgreSQL: rows and psycopg": r"/embedding_worker/rows/|/site-packages/psycopg(_pool|_binary)?/",
    "providers": r"/embedding_worker/providers/|/benchmark_provider\.py",
    "logging": r"/site-packages/structlog/|/embedding_operator/logs\.py|/lib/python[\d.]+/logging/",
    "metrics": (
        r"/site-packages/prometheus_client/|/embedding_operator/(\w+_)?metrics\.py|/embedding_worker/metering\.py"
        r"|/embedding_operator/serve/metrics\.py"
    ),
    "pydantic": r"/site-packages/(pydantic|pydantic_core|annotated_types)/",
    "embedding: batches, texts, writes": r"/embedding_worker/",
    "reconciler and lifecycle": r"/embedding_operator/",
}
"""A part of the code, and the files of its frames. The first one that matches counts."""
EVENT_LOOP = "event loop"
"""Samples without a frame of a part inside a turn of asyncio's loop: its own work."""
OTHER = "other"
"""Any other sample without a frame of a part: threads, the start and the end."""
TURN_OF_THE_LOOP = re.compile(r"_run_once \(.*/asyncio/base_events\.py")
"""What is outside of it has started the loop, and is no reason for what the loop does."""
WOKEN = re.compile(r"\bselect \(.*/selectors\.py")
"""In the system call in which the loop waits for events. A process that was woken there and waits for a core has samples as if it
worked, and on a busy machine these are many; the work itself is little."""
COMPILED = {part: re.compile(files) for part, files in PARTS.items()}


def samples_by_part(raw: str) -> Counter[str]:
    """How many samples each part has, without those that are WOKEN.

    `raw` is py-spy's format `raw`: a line has the frames, joined by `;`, and the number.
    """
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        joined, _, number = line.rpartition(" ")
        stack = joined.split(";")
        if not WOKEN.search(stack[-1]):
            found[part_of(stack)] += int(number)
    return found


def part_of(stack: Sequence[str]) -> str:
    """`stack` is ordered from the outermost frame to the innermost; a frame is `function (file:line)`."""
    for frame in reversed(stack):
        for part, files in COMPILED.items():
            if files.search(frame):
                return part
        if TURN_OF_THE_LOOP.search(frame):
            return EVENT_LOOP
    return OTHER


def table(samples: Mapping[str, int], *, ms_per_job: float) -> str:
    """In Markdown, the largest part first. `ms_per_job` is the processor time of all parts together."""
    in_all = sum(samples.values())
    lines = ["| part | % | ms a job |", "| --- | ---: | ---: |"]
    for part, number in sorted(samples.items(), key=lambda item: -item[1]):
        share = number / in_all
        lines.append(f"| {part} | {100 * share:.1f} | {ms_per_job * share:.2f} |")
    return "\n".join([*lines, f"| all | 100 | {ms_per_job:.2f} |"])
