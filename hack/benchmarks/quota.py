"""How much of a provider's quota is used, and how often it is exceeded: a backfill for a minute, at 3,000 texts a minute.

The server counts what it has accepted in the last 60 seconds, and answers 429 to what would exceed the quota. Called by
__main__.py.
"""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hack.benchmarks.batching import MODEL
from hack.benchmarks.operator_system import operator_system
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until
from hack.processes.daemons import end, start_daemon, wait_until_ready
from hack.provider_server.process import API_KEY
from hack.repository import ROOT

QUOTA = 3_000
MINUTE_S = 60.0
ROWS = 4_000
"""More than a minute's."""
WITHIN_S = 180.0
LISTENING = re.compile(r"^listening on (http://\S+)$", re.MULTILINE)


def measure(setting: Setting) -> Mapping[str, float]:
    with operator_system(setting, ROWS) as system, limited_server(setting) as url:
        limits = {"EMBEDDING_GEMINI_TEXTS_PER_MINUTE": str(QUOTA)}
        system.start_operator(settings={"GEMINI_API_KEY": API_KEY, "EMBEDDING_GEMINI_ENDPOINT": url, **limits})
        system.apply_source(model=MODEL, backfill={"mode": "Auto", "threshold": 1_000})
        wait_until(lambda: duration_s(counted(url)) >= MINUTE_S, within_s=WITHIN_S, because="the minute is over")
        found = counted(url)
        return {"quota_used_ratio": used_in_a_minute(found["accepted"]) / QUOTA, "quota_refusals": found["refused"]}


def measure_refusals(setting: Setting) -> Mapping[str, float]:
    """What is a count."""
    return {"quota_refusals": measure(setting)["quota_refusals"]}


def used_in_a_minute(accepted: Sequence[tuple[float, int]]) -> int:
    """The texts that were accepted in the minute that begins with the first call of several texts. Canaries come before."""
    began = min(at for at, texts in accepted if texts > 1)
    return sum(texts for at, texts in accepted if began <= at < began + MINUTE_S)


def duration_s(found: Mapping[str, Any]) -> float:
    """From the first call of several texts to the last call."""
    began = min((at for at, texts in found["accepted"] if texts > 1), default=None)
    return 0.0 if began is None else float(max(at for at, _ in found["accepted"]) - began)


def counted(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # none is used for an address of this machine
    with opener.open(f"{url}/control/quota", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@contextmanager
def limited_server(setting: Setting) -> Iterator[str]:
    """Its address."""
    log = setting.folder / "quota-server.log"
    daemon = start_daemon(
        "quota-server",
        [sys.executable, "-m", "hack.benchmarks.quota_server", str(QUOTA)],
        log=log,
        ends_with_parent=True,
        settings={"PYTHONPATH": str(ROOT)},
    )
    try:
        wait_until_ready(daemon, lambda: LISTENING.search(log.read_text()) is not None, within_s=30)
        found = LISTENING.search(log.read_text())
        assert found is not None
        yield found[1]
    finally:
        end(daemon, within_s=5)
