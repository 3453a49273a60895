"""The handler of an open EmbeddingJob: parses it and has the job runner take its next step, unless the job backs off.

kopf calls it for every event of an open job: new, found at a restart, replayed, or touched at the end of a pause. kopf ignores
what an event handler raises, and patches nothing: the runner sends the status itself.
"""

from typing import Any

import kopf
import structlog
from pydantic import ValidationError

from embedding_operator.reconciler.job_runner import JobRunner
from embedding_operator.reconciler.pauses import Pauses
from embedding_operator.resources import GROUP, JOBS, VERSION
from embedding_operator.resources.embedding_job import OPEN, Phase, parse_job

log = structlog.get_logger(__name__)


def register(registry: kopf.OperatorRegistry, runner: JobRunner, pauses: Pauses) -> None:
    def is_open(event: kopf.RawEvent, **_: Any) -> bool:
        body = event["object"]
        if event["type"] == "DELETED" or "deletionTimestamp" in body["metadata"]:
            return False
        return body.get("status", {}).get("phase", Phase.PENDING) in OPEN

    @kopf.on.event(GROUP, VERSION, JOBS, registry=registry, id="embed", when=is_open)
    async def embed(event: kopf.RawEvent, name: str, **_: Any) -> None:
        try:
            job = parse_job(event["object"])
        except ValidationError as exc:  # a CRD older or newer than this operator
            log.error("job not understood", job=name, problems=exc.error_count())
            return
        if not pauses.holds(job):
            await runner.run(job)
