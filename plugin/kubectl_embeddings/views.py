"""What the verbs read of a source and of a job. Pure; called by every verb that shows one.

The objects may come from another version of the CRDs, so each field may be missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embedding_operator.lifecycle.condition import Condition
from embedding_operator.resources.base import parsed_timestamp

Body = Mapping[str, Any]
STATUSES = {"True": True, "False": False}


@dataclass(frozen=True)
class Job:
    name: str
    source: str
    id: str
    phase: str
    attempts: int
    reason: str
    message: str
    created: datetime | None
    next_attempt: datetime | None
    completed: datetime | None
    replays: int
    failures: tuple[tuple[datetime | None, str], ...]
    """When the last ten attempts failed, the oldest first, and the reason with the provider's code where there is one."""

    @property
    def last_failure(self) -> str:
        return self.failures[-1][1] if self.failures else ""


@dataclass(frozen=True)
class Source:
    name: str
    table: str
    model: str
    suspended: bool
    approved: str
    processed: bool
    """Whether an operator has looked at it since it was created."""
    summary: str
    rows: Body
    jobs: Body
    conditions: Mapping[str, Condition]
    pending: str
    """The fingerprint that waits for approval; empty where none does."""
    reembed: Body
    today: Body
    backfill: Body
    changed: datetime | None = None
    """When its spec was changed, where no operator has looked at it since."""
    freshness_target: str = ""
    """A duration such as 15m; empty where there is none."""


def job_of(body: Body) -> Job:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    return Job(
        name=body["metadata"]["name"],
        source=(spec.get("sourceRef") or {}).get("name", ""),
        id=spec.get("businessId", ""),
        phase=status.get("phase") or "Pending",
        attempts=status.get("attempts") or 0,
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        created=parsed_timestamp(body["metadata"].get("creationTimestamp")),
        next_attempt=parsed_timestamp(status.get("nextAttemptTime")),
        completed=parsed_timestamp(status.get("completionTime")),
        replays=status.get("replays") or 0,
        failures=tuple((parsed_timestamp(one.get("time")), _failure(one)) for one in status.get("history") or ()),
    )


def source_of(body: Body) -> Source:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    conditions = {one["type"]: _condition(one) for one in status.get("conditions") or ()}
    ready = conditions.get("Ready")
    return Source(
        name=body["metadata"]["name"],
        table=spec.get("table", ""),
        model=(spec.get("model") or {}).get("name", ""),
        suspended=bool(spec.get("suspend")),
        approved=spec.get("approvedFingerprint") or "",
        processed=status.get("observedGeneration", -1) >= 0,
        summary=status.get("summary") or (ready.reason if ready else ""),
        rows=status.get("rows") or {},
        jobs=status.get("jobs") or {},
        conditions=conditions,
        pending=status.get("pendingFingerprint") or "",
        reembed=status.get("reembed") or {},
        changed=_unseen_change(body),
        freshness_target=spec.get("freshnessTarget") or "",
        today=status.get("today") or {},
        backfill=status.get("backfill") or {},
    )


def _unseen_change(body: Body) -> datetime | None:
    """The generation has no time of its own; its writer has, and so has each later writer of metadata."""
    metadata, seen = body["metadata"], (body.get("status") or {}).get("observedGeneration", -1)
    if metadata.get("generation", -1) <= seen:
        return None
    writes = [one.get("time") for one in metadata.get("managedFields") or () if one.get("subresource") != "status"]
    moments = [parsed_timestamp(time) for time in (metadata.get("creationTimestamp"), *writes)]
    return max((moment for moment in moments if moment is not None), default=None)


def _failure(entry: Body) -> str:
    reason, code = entry.get("reason") or "", entry.get("code") or ""
    return f"{reason} ({code})" if code else reason


def _condition(body: Body) -> Condition:
    return Condition(
        body["type"], STATUSES.get(body.get("status", "")), body.get("reason") or "", body.get("message") or ""
    )
