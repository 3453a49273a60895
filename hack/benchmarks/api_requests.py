"""How many requests an API server was sent because of the operator, by its own metrics.

Called by backfill.py, lifecycle.py and batching.py.
"""

import re

from embedding_operator.resources import JOBS as EMBEDDING_JOBS
from hack.installation.kubectl import Kubectl

COUNTER = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
OURS = re.compile(r'group="embeddings\.yellowbook\.dev"|resource="events"|resource="leases"')
JOBS = re.compile(rf'resource="{EMBEDDING_JOBS}"')
WRITES = re.compile(r'verb="(?:POST|PUT|PATCH|APPLY|DELETE|DELETECOLLECTION)"')


def counted(metrics: str) -> float:
    """Requests for the operator's resources, Events and Leases. The leases of the API server itself are among them."""
    return sum(float(found["value"]) for found in COUNTER.finditer(metrics) if OURS.search(found["labels"]))


def written_jobs(metrics: str) -> float:
    """Requests that create, change or delete EmbeddingJobs, or write their statuses.

    Of the programs of a benchmark only the operator sends such ones while it runs. Reads are left out, because a benchmark that
    waits reads too, and so is what grows with the time and not with the jobs, such as the renewals of a lease.
    """
    return sum(
        float(found["value"])
        for found in COUNTER.finditer(metrics)
        if JOBS.search(found["labels"]) and WRITES.search(found["labels"])
    )


def requests_so_far(kubectl: Kubectl) -> float:
    return counted(kubectl.run("get", "--raw", "/metrics"))


def job_writes_so_far(kubectl: Kubectl) -> float:
    return written_jobs(kubectl.run("get", "--raw", "/metrics"))
