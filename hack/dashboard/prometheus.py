"""A real Prometheus that scrapes one operator and evaluates rules. Called by a journey of the tests, and by story.py."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import yaml

from hack.processes.daemons import Daemon, end, start_daemon, wait_until_ready

READY_WITHIN_S = 60.0
ENDS_WITHIN_S = 20.0
LISTENING = re.compile(r'msg="Listening on".* address=(127\.0\.0\.1:\d+)')


class Prometheus:
    """It scrapes `target`, the URL of an operator, each `every_s`, and gives it the labels of a pod in this namespace."""

    def __init__(
        self, program: Path, folder: Path, *, target: str, namespace: str, rules: Any, every_s: int = 1
    ) -> None:
        self.namespace = namespace
        self._program = program
        self._folder = folder
        self._rules = rules
        labels = {"namespace": namespace, "pod": "embedding-operator-7f9c4"}
        self._config = {
            "global": {"scrape_interval": f"{every_s}s", "evaluation_interval": f"{every_s}s"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [
                {
                    "job_name": "embedding-operator",
                    "static_configs": [{"targets": [urlsplit(target).netloc], "labels": labels}],
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

    def series(self, query: str, *, since: float, until: float, step_s: int) -> list[Any]:
        """The samples of this query between two moments in Unix time: each with its labels and values."""
        asked = {"query": query, "start": since, "end": until, "step": step_s}
        found: list[Any] = self._ask(f"query_range?{urlencode(asked)}")["result"]
        return found

    def _ask(self, path: str) -> Any:
        assert self._daemon is not None
        found = LISTENING.findall(self._daemon.log.read_text())
        with urlopen(f"http://{found[-1]}/api/v1/{path}", timeout=30) as response:
            return json.load(response)["data"]
