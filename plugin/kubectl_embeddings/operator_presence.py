"""Whether an operator works in a namespace, as its Lease says: without one, what a status says is of an earlier time.

Called by status.py, explanation.py, leader.py and the page. Where the Lease cannot be read, or does not exist, as
with an operator outside of the cluster, nothing is known, and nothing is said.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from embedding_operator.api_errors import ApiServerError
from embedding_operator.lifecycle.lease import DURATION_S, LEASE
from embedding_operator.resources.base import parsed_timestamp
from kubectl_embeddings.cluster import Json, Requests
from kubectl_embeddings.failures import NotFound

LABEL = "app.kubernetes.io/name=embedding-operator"
CLOCKS_DIFFER = timedelta(seconds=15)
"""A Lease has the time of the operator's machine, and is compared with that of this one."""


def pods_command(namespace: str = "") -> str:
    """What shows why no operator works."""
    return f"kubectl get pods,deployments {f'-n {namespace} ' if namespace else ''}-l {LABEL}"


def lease_path(namespace: str) -> str:
    return f"apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}"


async def read_lease(cluster: Requests, namespace: str) -> Json | None:
    """None where it may not be read, or does not exist."""
    try:
        return await cluster.read(lease_path(namespace))
    except (ApiServerError, NotFound):
        return None


def absence(lease: Mapping[str, Any] | None, now: datetime) -> str:
    """That no operator works, and since when, in a few words; empty where one does, or where it is not known."""
    if lease is None:
        return ""
    spec = lease.get("spec") or {}
    renewed = parsed_timestamp(spec.get("renewTime"))
    held_for = timedelta(seconds=spec.get("leaseDurationSeconds") or DURATION_S)
    if spec.get("holderIdentity") and (renewed is None or now - renewed <= held_for + CLOCKS_DIFFER):
        return ""
    return f"no operator has led since {renewed.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if renewed else "no operator leads"
