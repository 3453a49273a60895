"""The handler of an open EmbeddingJob: parse, have its row made fresh, patch. And what the watch says of open jobs.

kopf calls it for every job that is open: just made, found at a restart, or replayed.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import kopf
import structlog

from embedding_operator.handlers.context import Context
from embedding_operator.lifecycle.job_status import settled
from embedding_operator.resources import GROUP, JOBS, VERSION
from embedding_operator.resources.embedding_job import OPEN, Phase, parsed_job
from embedding_worker.freshen import RowRequest

log = structlog.get_logger(__name__)


def register(registry: kopf.OperatorRegistry, context: Context) -> None:
    def to_be_handled(body: kopf.Body, **_: Any) -> bool:
        return body.get("status", {}).get("phase", Phase.PENDING) in OPEN and context.takes_work

    @kopf.on.create(GROUP, VERSION, JOBS, registry=registry, id="embed", when=to_be_handled)
    async def embed(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        await embed_row(context, body, patch)

    @kopf.on.event(GROUP, VERSION, JOBS, registry=registry, id="open-jobs")
    async def keep_open_jobs(event: kopf.RawEvent, **_: Any) -> None:
        note_event(context, event["type"], event["object"])


async def embed_row(context: Context, body: Mapping[str, Any], patch: kopf.Patch) -> None:
    """Make the job's row fresh, and put the outcome into its status."""
    job = parsed_job(body)
    started = datetime.now(UTC)
    context.jobs.seen(job, time.monotonic())
    context.jobs.changed(job.name, in_flight=True)
    outcome = await context.sources.freshen(job.source, RowRequest(job.spec.business_id, job.spec.content_hash))
    if outcome is None:
        log.info("job has no source", job=job.name, source=job.source)
        return
    now = datetime.now(UTC)
    status = settled(outcome, attempts=job.status.attempts, started=started, now=now)
    if status["phase"] == Phase.DEAD_LETTERED:
        context.jobs.died(job)
    patch.status.update(status)
    log.info(
        "job settled",
        job=job.name,
        source=job.source,
        business=job.spec.business_id,
        phase=status["phase"],
        reason=outcome.reason,
        total_ms=status["latencies"]["totalMs"],
    )


def note_event(context: Context, kind: str | None, body: Mapping[str, Any]) -> None:
    """The watch shows open jobs only: one that is finished, dead or deleted leaves it, as DELETED."""
    job = parsed_job(body)
    now = time.monotonic()
    if kind != "DELETED":
        context.jobs.seen(job, now)
        return
    known = context.jobs.left(job.name)
    if known is not None:
        if not context.jobs.is_dead_letter(job.name):
            context.cohorts.finished(known.cohort, now)
        context.sources.job_left(job.source)
