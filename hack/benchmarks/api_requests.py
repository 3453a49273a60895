"""How many requests an API server was sent because of the operator, by its own metrics. Called by backfill.py."""

import re

from hack.installation.kubectl import Kubectl

COUNTER = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
OURS = re.compile(r'group="embeddings\.yellowbook\.dev"|resource="events"|resource="leases"')


def counted(metrics: str) -> float:
    """Requests for the operator's resources, Events and Leases. The leases of the API server itself are among them."""
    return sum(float(found["value"]) for found in COUNTER.finditer(metrics) if OURS.search(found["labels"]))


def requests_so_far(kubectl: Kubectl) -> float:
    return counted(kubectl.run("get", "--raw", "/metrics"))
