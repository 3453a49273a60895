"""All that the operator asks of the API server, as rights in its namespace: no more is granted, no less is enough.

charts/embedding-operator/files/rules.yaml grants it, and workers-rules.yaml what worker pods need; a test holds them equal.
`embedding-operator check` asks for each.
"""

from dataclasses import dataclass
from typing import Any

from embedding_operator.lifecycle.lease import LEASE
from embedding_operator.resources import EVENTS, EVENTS_GROUP, GROUP, JOBS, SOURCES

LEASES_GROUP = "coordination.k8s.io"


@dataclass(frozen=True, order=True)
class Right:
    """`resource` with its subresource, as in a Role."""

    verb: str
    group: str
    resource: str
    name: str = ""
    """Of the only object that it is for; empty if it is for all."""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    def review(self, namespace: str) -> dict[str, Any]:
        """The object that asks the API server whether the account that sends it has this right."""
        resource, _, subresource = self.resource.partition("/")
        attributes = {
            "namespace": namespace,
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "name": self.name,
        }
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }


RIGHTS = (
    *(Right(verb, GROUP, SOURCES) for verb in ("get", "list", "watch")),
    Right("patch", GROUP, f"{SOURCES}/status"),
    *(Right(verb, GROUP, JOBS) for verb in ("get", "list", "watch", "create", "patch", "delete", "deletecollection")),
    Right("patch", GROUP, f"{JOBS}/status"),
    Right("create", EVENTS_GROUP, EVENTS),
    Right("create", LEASES_GROUP, "leases"),
    *(Right(verb, LEASES_GROUP, "leases", LEASE) for verb in ("get", "watch", "update")),
)
WORKER_RIGHTS = tuple(Right(verb, "batch", "jobs") for verb in ("get", "create", "delete"))
"""Where the chart enables worker pods for backfills."""
