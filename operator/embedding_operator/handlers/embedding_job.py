"""The handler of an open EmbeddingJob: parse, have its row made fresh, patch. And what the watch says of open jobs.

kopf calls it for every job that is open: just made, found at a restart, or replayed.
"""

import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import kopf
import structlog

from embedding_operator.handlers.context import Context
from embedding_operator.lifecycle.events import dead_lettered, replayed
from embedding_operator.lifecycle.job_status import JobPatch, replay_begun, settled
from embedding_operator.lifecycle.next_step import BeginReplay, Embed, Nothing, next_step
from embedding_operator.resources import GROUP, JOBS, VERSION
from embedding_operator.resources.embedding_job import OPEN, EmbeddingJob, Phase, parsed_job
from embedding_worker.outcome import RowRequest

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
    """Take the job's next step, and put what comes of it into its status."""
    job = parsed_job(body)
    context.shared.jobs.seen(job, time.monotonic())
    match next_step(job):
        case BeginReplay():
            apply(replay_begun(job, datetime.now(UTC)), patch)
            context.shared.metrics.replayed(job.source)
            context.shared.events.tell(replayed(job))
            log.info("job replayed", job=job.name, source=job.source, business=job.spec.business_id)
        case Embed():
            await _embed(context, job, patch)
        case Nothing():  # it has settled meanwhile
            return


async def _embed(context: Context, job: EmbeddingJob, patch: kopf.Patch) -> None:
    started = datetime.now(UTC)
    context.shared.jobs.in_hand(job.name, True)
    request = RowRequest(job.spec.business_id, job.spec.content_hash)
    outcome = await context.sources.freshen(job.source, request, urgent=context.shared.jobs.is_edit(job.name))
    if outcome is None:
        context.shared.jobs.in_hand(job.name, False)
        log.info("job put down: its source is gone, or the process ends", job=job.name, source=job.source)
        return
    policy = context.sources.retry_policy(job.source)
    result = settled(
        outcome,
        job,
        policy=policy,
        started=started,
        now=datetime.now(UTC),
        jitter=random.random(),  # noqa: S311
    )
    if result.phase is Phase.DEAD_LETTERED:
        context.shared.jobs.died(job)
        context.shared.events.tell(dead_lettered(job, result))
    if result.phase is Phase.RETRYING:
        context.shared.jobs.backs_off(job.name)
    apply(result, patch)
    took_s = (datetime.now(UTC) - started).total_seconds()
    reason = str(result.status["reason"])
    context.shared.metrics.settled(job.source, phase=result.phase, reason=reason, took_s=took_s)
    log.info(
        "job settled",
        job=job.name,
        source=job.source,
        business=job.spec.business_id,
        phase=result.phase,
        reason=reason,
        attempts=result.status["attempts"],
        took_s=round(took_s, 3),
    )


def apply(result: JobPatch, patch: kopf.Patch) -> None:
    """kopf sends annotations and status as two requests, the status last, and nothing where there is nothing."""
    patch.status.update(result.status)
    if result.annotations:
        patch.metadata.annotations.update(result.annotations)


def note_event(context: Context, kind: str | None, body: Mapping[str, Any]) -> None:
    """The watch shows open jobs only: one that is finished, dead or deleted leaves it, as DELETED."""
    job = parsed_job(body)
    now = time.monotonic()
    if kind != "DELETED":
        context.shared.jobs.watched(job)
        return
    known = context.shared.jobs.left(job.name)
    if known is not None:
        if not context.shared.jobs.is_dead_letter(job):
            context.shared.cohorts.finished(known.cohort, now)
        context.shared.throughput.settled(now)
        context.sources.job_left(job.source)
