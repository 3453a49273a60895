"""A real Prometheus that scrapes one operator and evaluates the chart's alerts without their delay. Called by its journey."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import yaml

from hack.processes.daemons import Daemon, end, start_daemon, wait_until_ready
from hack.repository import CHART

READY_WITHIN_S = 60.0
ENDS_WITHIN_S = 20.0
LISTENING = re.compile(r'msg="Listening on".* address=(127\.0\.0\.1:\d+)')
EVERY = "1s"


class Prometheus:
    """It scrapes `target`, the URL of an operator, each second, and says that its namespace is `namespace`."""

    def __init__(
        self, program: Path, folder: Path, *, target: str, namespace: str, thresholds: Mapping[str, float] = {}
    ) -> None:
        self._program = program
        self._rules = alerts_at_once(thresholds)
        self._folder = folder
        self._config = {
            "global": {"scrape_interval": EVERY, "evaluation_interval": EVERY},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [
                {
                    "job_name": "embedding-operator",
                    "static_configs": [{"targets": [urlsplit(target).netloc], "labels": {"namespace": namespace}}],
                }
            ],
        }
        self._daemon: Daemon | None = None

    def start(self) -> None:
        """Start it, and return when it answers. Raises DaemonDied with the end of its log."""
        (self._folder / "prometheus.yaml").write_text(yaml.safe_dump(self._config))
        (self._folder / "alerts.yaml").write_text(yaml.safe_dump(self._rules))
        log = self._folder / "prometheus.log"
        flags = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
        self._daemon = start_daemon("prometheus", [self._program, *flags], log=log, ends_with_parent=True)
        wait_until_ready(self._daemon, lambda: "Server is ready" in log.read_text(), within_s=READY_WITHIN_S)

    def stop(self) -> None:
        if self._daemon is not None:
            end(self._daemon, within_s=ENDS_WITHIN_S)

    def firing(self) -> set[tuple[str, str]]:
        """The name of each alert that fires, and its source, circuit or nothing."""
        alerts = self._ask("alerts")["alerts"]
        return {
            (found["labels"]["alertname"], found["labels"].get("source", found["labels"].get("circuit", "")))
            for found in alerts
            if found["state"] == "firing"
        }

    def query(self, query: str) -> list[Any]:
        """The samples of this query now."""
        samples: list[Any] = self._ask(f"query?{urlencode({'query': query})}")["result"]
        return samples

    def _ask(self, path: str) -> Any:
        assert self._daemon is not None
        found = LISTENING.findall(self._daemon.log.read_text())
        with urlopen(f"http://{found[-1]}/api/v1/{path}", timeout=10) as response:
            return json.load(response)["data"]


def alerts_at_once(thresholds: Mapping[str, float] = {}) -> Any:
    """The rules of the chart, which fire as soon as their query has a result, with these thresholds."""
    text = (CHART / "files" / "alerts.yaml").read_text()
    for name, value in thresholds.items():
        text = re.sub(rf"[0-9.]+ # {name}\b", str(value), text)
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    return rules
