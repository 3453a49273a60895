"""The Job of Kubernetes whose pods embed the backlog of one source: its manifest, and what its status says. Pure.

Called by reconciler/workers_job.py. The chart renders the template: the pod, its labels, and how often an index is tried again.
"""

import hashlib
import re
from collections.abc import Mapping
from copy import deepcopy
from enum import Enum
from typing import Any

from embedding_operator.resources import GROUP, VERSION
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.rows.backfills import BackfillRun

Json = dict[str, Any]
RUN_ANNOTATION = f"{GROUP}/backfill"
SOURCE_ANNOTATION = f"{GROUP}/source"
CONTAINER = "worker"
STOPPED = 143
"""The exit code of a worker that was told to stop."""
NOT_READY_AFTER_S = 60.0
KEPT_S = 3600
"""The operator removes the Job. This is for one that has ended while no operator runs."""
LONGEST_SLUG = 30
"""Of a name of at most 48 characters: the name of a pod in it adds its index, and must be a DNS label of 63 characters."""
IGNORED_FAILURES: tuple[Json, ...] = (
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "Ignore", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [STOPPED]}},
)
"""An eviction, a preemption or a drained node is no failure of the index, and neither is a worker that was told to stop."""


class TemplateRefused(Exception):
    """The template is not one that the chart has rendered. The message is a sentence."""


def job_name(source: str) -> str:
    """The same for every backfill of the source, so that there is one at a time, and none has to be searched for."""
    slug = re.sub(r"[^a-z0-9]+", "-", source.lower())[:LONGEST_SLUG].strip("-")
    return f"{slug}-backfill-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def job_manifest(template: Any, source: EmbeddingSource, run: BackfillRun) -> Json:
    """An Indexed Job with a pod for each share. It is deleted with its source. Raises TemplateRefused."""
    try:
        job: Json = deepcopy(dict(template))
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        metadata = {**(job.get("metadata") or {})}
    except (KeyError, TypeError, ValueError) as exc:
        raise TemplateRefused("it has no spec.template.spec with one container") from exc
    container |= {"name": CONTAINER, "args": ["backfill-worker", run.source, f"--run={run.run}"]}
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "EmbeddingSource",
        "name": source.name,
        "uid": source.metadata.uid,
    }
    metadata |= {"name": job_name(source.name), "namespace": source.metadata.namespace, "ownerReferences": [owner]}
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        RUN_ANNOTATION: run.run,
        SOURCE_ANNOTATION: source.name,
    }
    workers = run.settings.workers
    shares = {"completionMode": "Indexed", "completions": workers, "parallelism": workers}
    spec = job["spec"] | shares | {"podFailurePolicy": {"rules": list(IGNORED_FAILURES)}}
    spec |= {"ttlSecondsAfterFinished": KEPT_S}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


class JobState(Enum):
    RUNNING = "Running"
    """Of this backfill. Also if its pods wait for a node or a queue."""
    FAILED = "Failed"
    """Of this backfill: an index has failed as often as it may, and no other is running."""
    OUTDATED = "Outdated"
    """It has done its part, or it belongs to another backfill or to a source that was deleted: it has to be deleted."""
    BEING_DELETED = "BeingDeleted"
    FOREIGN = "Foreign"
    """Somebody else has created a Job of this name."""


def state_of(job: Mapping[str, Any], source: EmbeddingSource, run: str) -> JobState:
    """What is to be done with the Job that exists, for this backfill."""
    metadata = job["metadata"]
    owners = [owner for owner in metadata.get("ownerReferences", ()) if owner["kind"] == "EmbeddingSource"]
    annotations = metadata.get("annotations", {})
    if not owners or annotations.get(SOURCE_ANNOTATION) != source.name:
        return JobState.FOREIGN
    if metadata.get("deletionTimestamp"):
        return JobState.BEING_DELETED
    if owners[0]["uid"] != source.metadata.uid or annotations.get(RUN_ANNOTATION) != run:
        return JobState.OUTDATED
    ended = {condition["type"] for condition in _conditions(job) if condition["status"] == "True"}
    if "Complete" in ended:  # and the backfill goes on: rows have become due since
        return JobState.OUTDATED
    return JobState.FAILED if "Failed" in ended else JobState.RUNNING


def problem_of(job: Mapping[str, Any], *, seen_for_s: float) -> tuple[str, str] | None:
    """Reason and sentence, where its pods do not work as they should; None otherwise."""
    name, status = job["metadata"]["name"], job.get("status", {})
    if failed := status.get("failedIndexes"):
        return (
            "WorkersFailed",
            f"the workers with index {failed} of Job {name} have failed too often: `kubectl logs job/{name}` says why; after "
            f"the correction, `kubectl delete job {name}` starts them again at once",
        )
    if failure := next((one for one in _conditions(job) if one["type"] == "Failed" and one["status"] == "True"), None):
        return (
            "WorkersFailed",
            f"Job {name} has failed ({failure.get('message', failure.get('reason', ''))}): `kubectl describe job {name}` says "
            f"why; after the correction, `kubectl delete job {name}` starts it again at once",
        )
    if job["spec"].get("suspend"):
        return (
            "WorkersQueued",
            f"Job {name} is suspended, which Kueue does until its queue admits it: see `kubectl get workloads`, or set "
            "spec.suspend of the Job to false",
        )
    if not status.get("ready") and not status.get("succeeded") and seen_for_s >= NOT_READY_AFTER_S:
        return (
            "WorkersPending",
            f"no worker pod of Job {name} is ready after {seen_for_s:.0f} s: `kubectl describe job {name}` and `kubectl describe "
            f"pods -l job-name={name}` say why",
        )
    return None


def _conditions(job: Mapping[str, Any]) -> list[Json]:
    found: list[Json] = job.get("status", {}).get("conditions") or []
    return found
