"""Decides which Kubernetes Events are emitted: dead letters, replays, and changes of a source's conditions. Pure.

Called by job_runner.py and status_report.py; event_poster.py sends the result. A note repeats what the status says, so it
never contains a row's text or a key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from embedding_operator.lifecycle.job_status import JobPatch
from embedding_operator.lifecycle.lease import LEASE
from embedding_operator.resources import EVENTS_GROUP, GROUP, VERSION
from embedding_operator.resources.embedding_job import EmbeddingJob
from embedding_operator.resources.embedding_source import EmbeddingSource

CONTROLLER = f"{GROUP}/embedding-operator"
MAX_NOTE_BYTES = 1024
"""The API server refuses a longer note; reasons and actions are shorter than its limits for them."""
NORMAL, WARNING = "Normal", "Warning"


@dataclass(frozen=True)
class Event:
    """`regarding` and `related` are references to objects of ours, in the operator's namespace."""

    source: str
    action: str
    """What happened; events of one source and action are sent at most once a second."""
    type: str
    reason: str
    note: str
    regarding: dict[str, str]
    related: dict[str, str] | None = None


def dead_lettered(job: EmbeddingJob, patch: JobPatch) -> Event:
    reason, note = str(patch.status["reason"]), str(patch.status["message"])
    return _of_job(job, "DeadLetter", WARNING, reason, note)


def replayed(job: EmbeddingJob) -> Event:
    return _of_job(job, "Replay", NORMAL, "Replayed", "replayed: the attempts start at 0 again")


def _of_job(job: EmbeddingJob, action: str, kind: str, reason: str, note: str) -> Event:
    regarding = _reference("EmbeddingJob", job.name, job.metadata.uid)
    return Event(job.source, action, kind, reason, note, regarding, _reference("EmbeddingSource", job.source))


def triggers_left(source: str, uid: str, sql: str) -> Event:
    """A deleted source's triggers belong to another role. They prevent nothing, but each edit appends a change mark."""
    note = (
        "the triggers of the deleted source stay and go on to record edits, because another role owns their function: "
        f"as that role run {sql}"
    )
    return Event(source, "DropTriggers", WARNING, "TriggersLeft", note, _reference("EmbeddingSource", source, uid))


def vectors_adopted(source: EmbeddingSource, rows: int) -> Event:
    note = f"{rows} rows keep the vectors that {source.spec.embedding_column} already held: no text of theirs was sent"
    regarding = _reference("EmbeddingSource", source.name, source.metadata.uid)
    return Event(source.name, "Adopt", NORMAL, "VectorsAdopted", note, regarding)


def leader_changed(identity: str, *, leads: bool) -> Event:
    """A process begins to lead, or has ceased to."""
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": LEASE}
    if leads:
        return Event("", "Lead", NORMAL, "Leading", f"{identity} leads from now on", lease)
    return Event("", "Lead", NORMAL, "NotLeading", f"{identity} does not lead any more, and starts no work", lease)


def of_source(
    source: EmbeddingSource, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[Event]:
    """The events of a source whose written conditions change from `before` to `after`."""
    old = {condition["type"]: (condition["status"], condition["reason"]) for condition in before}
    events: list[Event] = []
    for condition in after:
        kind, status = condition["type"], condition["status"]
        known, known_reason = old.get(kind, (None, None))
        if status == known and condition["reason"] == known_reason:
            continue
        match kind, status:
            case ("Stalled" | "ReembedRequired" | "BlankTexts" | "RowsLocked", "True") | (
                "ProviderReady" | "DatabaseReady",
                "False",
            ):
                event_type, reason = WARNING, condition["reason"]
            case ("Ready", "True") if "Suspended" in (condition["reason"], known_reason):
                event_type, reason = NORMAL, condition["reason"]
            case ("Ready", "True") if known != "True":
                event_type, reason = NORMAL, kind
            case ("ProviderReady" | "DatabaseReady", "True") if known == "False":
                event_type, reason = NORMAL, kind
            case _:
                continue
        events.append(about_source(source, kind, event_type, reason, condition["message"]))
    return events


def about_source(source: EmbeddingSource, action: str, kind: str, reason: str, note: str) -> Event:
    """An event of a source as a whole."""
    return Event(
        source.name, action, kind, reason, note, _reference("EmbeddingSource", source.name, source.metadata.uid)
    )


def manifest(event: Event, *, more: int, name: str, namespace: str, instance: str, now: datetime) -> dict[str, Any]:
    """The object that is sent. `more` others of the same source and action have happened since the last one sent."""
    others = f" (and {more} more since the last event)" if more else ""
    note = event.note.encode()[: MAX_NOTE_BYTES - len(others)].decode(errors="ignore") + others
    body: dict[str, Any] = {
        "apiVersion": f"{EVENTS_GROUP}/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "action": event.action,
        "reason": event.reason,
        "type": event.type,
        "note": note,
        "regarding": event.regarding | {"namespace": namespace},
    }
    if event.related is not None:
        body["related"] = event.related | {"namespace": namespace}
    return body


def _reference(kind: str, name: str, uid: str = "") -> dict[str, str]:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "name": name} | ({"uid": uid} if uid else {})
