"""The chart's alerts without their delay, and the queries of its dashboard as Grafana would send them. Called by a journey."""

import json
import re
from collections.abc import Mapping
from math import isnan
from typing import Any

import yaml

from hack.dashboard.grafana import FILE
from hack.dashboard.prometheus import Prometheus
from hack.dashboard.queries import as_asked
from hack.repository import CHART


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


def queries_of_the_dashboard(namespace: str) -> dict[str, str]:
    """The title of a panel and the letter of its query → the query for all sources of this namespace."""
    return {
        f"{panel['title']} {target['refId']}": as_asked(target["expr"], namespace=namespace, interval="1m")
        for panel in json.loads(FILE.read_text())["panels"]
        for target in panel.get("targets", ())
    }


def has_data(prometheus: Prometheus, query: str) -> bool:
    """Whether there is at least one number."""
    return any(not isnan(float(sample["value"][1])) for sample in prometheus.query(query))
