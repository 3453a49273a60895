"""EmbeddingJob: one business whose embedding is missing or stale. Its name is the dedup key. Pure.

Parsed where jobs are read, made by the sweep. crds/embeddingjobs.yaml is the contract; a test compares the two.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator

from embedding_operator.resources import GROUP, VERSION
from embedding_operator.resources.base import Metadata, Resource, parsed_timestamp

SOURCE_LABEL = f"{GROUP}/source"
COHORT_LABEL = f"{GROUP}/cohort"
BACKOFF_ANNOTATION = f"{GROUP}/backoff"
"""For people: which attempt comes next, and when. A copy of the status that nothing reads."""
TOUCHED_ANNOTATION = f"{GROUP}/touched"
"""Written to a job to have kopf call its handler again: at the end of a pause, or because the job is orphaned."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "embedding-operator"}


class Phase(StrEnum):
    PENDING = "Pending"
    RETRYING = "Retrying"
    SUCCEEDED = "Succeeded"
    SUPERSEDED = "Superseded"
    DEAD_LETTERED = "DeadLettered"


OPEN = frozenset({Phase.PENDING, Phase.RETRYING})
FINISHED = frozenset({Phase.SUCCEEDED, Phase.SUPERSEDED})
"""Final phases. Only jobs in these may be deleted by a selector, because they can never become open again meanwhile."""

OPEN_SELECTOR = ",".join(f"status.phase!={phase}" for phase in Phase if phase not in OPEN)
FINISHED_SELECTOR = ",".join(f"status.phase!={phase}" for phase in Phase if phase not in FINISHED)


class SourceRef(Resource):
    name: str


class JobSpec(Resource):
    source_ref: SourceRef
    business_id: str
    content_hash: str
    fingerprint: str


class JobStatus(Resource):
    phase: Phase = Phase.PENDING
    attempts: int = 0
    reason: str | None = None
    next_attempt_time: datetime | None = None
    completion_time: datetime | None = None
    replays: int = 0
    history: list[dict[str, Any]] = Field(default_factory=list)

    @field_validator("next_attempt_time", "completion_time", mode="before")
    @classmethod
    def _moment(cls, value: Any) -> datetime | None:
        return parsed_timestamp(value)

    @field_validator("history", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return value or []


class EmbeddingJob(Resource):
    metadata: Metadata
    spec: JobSpec
    status: JobStatus = JobStatus()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def source(self) -> str:
        return self.spec.source_ref.name

    @property
    def is_open(self) -> bool:
        return self.status.phase in OPEN

    @property
    def is_final(self) -> bool:
        return self.status.phase in FINISHED

    @property
    def cohort(self) -> str:
        return self.metadata.labels.get(COHORT_LABEL, "")


def parse_job(body: Mapping[str, Any]) -> EmbeddingJob:
    """Raises pydantic's ValidationError where this version does not understand the object."""
    return EmbeddingJob.model_validate({key: body[key] for key in ("metadata", "spec", "status") if key in body})


def job_name(*, source: str, business_id: str, content_hash: str, fingerprint: str) -> str:
    """`<source>-<id>-<8 hex>`: the same for the same text of the same business and model, so a second create is a 409.

    An id that is not a DNS label is shortened to one and followed by 8 hex digits of its hash, which keep it unique. The
    source and the id are part of the last hash: source `a` with id `b-1`, and source `a-b` with id `1`, are two businesses.
    """
    readable = business_id
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", business_id):
        slug = re.sub(r"[^a-z0-9]+", "-", business_id.lower()).strip("-")[:30].strip("-")
        digest = hashlib.sha256(business_id.encode()).hexdigest()[:8]
        readable = f"{slug}-{digest}" if slug else digest
    key = "\0".join((source, business_id, content_hash, fingerprint))
    return f"{source}-{readable}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def job_manifest(*, name: str, namespace: str, cohort: str, spec: JobSpec) -> dict[str, Any]:
    """The object that is sent to create a job. It has no owner: a GitOps tool would show and refresh 500 children."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "EmbeddingJob",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {SOURCE_LABEL: spec.source_ref.name, COHORT_LABEL: cohort, **MANAGED_BY},
        },
        "spec": spec.model_dump(by_alias=True),
    }
