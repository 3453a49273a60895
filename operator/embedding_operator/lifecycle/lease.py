"""Decides who leads: what a Lease says, whether this process may take it, and what is written to it. Pure.

Called by leadership.py. A Lease is an object of Kubernetes that one process at a time holds, and renews; if it is not renewed for
as long as it says, another one may take it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

LEASE = "embedding-operator"
"""The name of the Lease. There is one release in a namespace, and one Lease for it."""
DURATION_S = 15
"""After this time without a renewal, another process takes the Lease."""
LONGEST_DURATION_S = 60.0
"""A Lease that somebody has written by hand holds no process up for longer."""
MARGIN_S = 3.0
"""So long before that, a holder that cannot renew it starts no more work."""


@dataclass(frozen=True)
class LeaseState:
    """A Lease as it was read."""

    holder: str
    """The pod's name; empty if the last holder has released it."""
    duration_s: float
    renewed: str
    """The time of the last renewal, as it stands there: it is compared, and never taken for the time of this machine."""
    transitions: int
    acquired: str | None
    version: str
    """The resource version: a write of an older one is refused."""


def parse_lease(body: Mapping[str, Any]) -> LeaseState:
    """A Lease of the API server. Whatever is missing, or is not what it should be, counts as not held."""
    spec = body.get("spec") or {}
    return LeaseState(
        spec.get("holderIdentity") or "",
        float(spec.get("leaseDurationSeconds") or DURATION_S),
        str(spec.get("renewTime")),
        int(spec.get("leaseTransitions") or 0),
        spec.get("acquireTime"),
        body["metadata"]["resourceVersion"],
    )


def expires_in_s(lease: LeaseState | None, identity: str, *, unchanged_for_s: float) -> float:
    """How long the process with this identity has to wait until it may take the Lease, if it does not change.

    `unchanged_for_s` is measured by the monotonic clock of this process since it has seen the Lease change. A container that was
    started again in the same pod has the identity of the one before, which has ended.
    """
    if lease is None or lease.holder in ("", identity):
        return 0.0
    return max(0.0, min(lease.duration_s, LONGEST_DURATION_S) - unchanged_for_s)


def taken_from(identity: str, before: LeaseState | None, now: LeaseState | None) -> bool:
    """Whether another process holds the Lease, or has held it since `before`, when the one with this identity held it."""
    if before is None or now is None:
        return now is not None and now.holder not in ("", identity)
    return now.holder not in ("", identity) or now.transitions != before.transitions


def held_by(identity: str, before: LeaseState | None, now: datetime) -> dict[str, Any]:
    """The spec of the Lease while this process holds it, given the one before."""
    holds_already = before is not None and before.holder == identity
    taken_over = before is not None and not holds_already
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": DURATION_S,
        "acquireTime": before.acquired if before is not None and holds_already and before.acquired else _micro(now),
        "renewTime": _micro(now),
        "leaseTransitions": (before.transitions if before is not None else 0) + int(taken_over),
    }


def released(before: LeaseState, now: datetime) -> dict[str, Any]:
    """The spec of the Lease after its holder has released it: others may take it at once."""
    return {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": _micro(now),
        "renewTime": _micro(now),
        "leaseTransitions": before.transitions,
    }


def _micro(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
